//! Programs at both ends of connections that must not notice an agent: what they see is their output,
//! and is compared (tests/live/harm.rs). All by hand, as what is sent in one write, and how a socket answers,
//! is what is tried.

mod body;
mod calls;
mod deeds;
mod forge;
mod link;
mod mix;
mod odd;
mod rare;
mod server;
mod shapes;
mod websocket;
mod wire;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    if let Some(wait) = std::env::var("HARM_AFTER")
        .ok()
        .and_then(|ms| ms.parse().ok())
    {
        std::thread::sleep(std::time::Duration::from_millis(wait));
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let transcript = match words[..] {
        ["serve", address] => return server::serve(address),
        ["mix", proxy, direct, authority] => {
            return mix::mix(proxy.parse()?, direct.parse()?, authority);
        }
        ["wire", one, other, loss, reorder] => {
            return wire::wire([one, other], loss.parse()?, reorder.parse()?, "nothing");
        }
        ["forge", one, other, deed] => return wire::wire([one, other], 0, 0, deed),
        ["odd", port] => return odd::odd(port.parse()?),
        ["rare", port] => return rare::rare(port.parse()?),
        ["noise", folder] => return body::write(folder),
        ["keep", address, count, at_once] => {
            deeds::keep(address.parse()?, count.parse()?, at_once.parse()?)
        }
        ["bulk", address, size] => deeds::bulk(address.parse()?, size.parse()?),
        ["raw", address] => deeds::raw(address.parse()?),
        ["websocket", address] => deeds::socket(address.parse()?),
        ["added", address] => deeds::added(address.parse()?)?,
        ["short", address, count, at_once] => {
            deeds::short(address.parse()?, count.parse()?, at_once.parse()?)
        }
        ["tls", address, authority] => deeds::tls(address.parse()?, authority, 10, 30),
        ["pace", address, count] => deeds::pace(address.parse()?, count.parse()?)?,
        _ => bail!("no such deed: {words:?}"),
    };
    transcript.iter().for_each(|line| println!("{line}"));
    Ok(())
}
