//! Requests in every shape that a write can give them.

/// What it is called, its writes, and how many responses it has.
pub type Shape = (&'static str, Vec<String>, usize);

/// All of them; each ends where the next request may begin.
pub fn all() -> Vec<Shape> {
    [heads(), bodies()].concat()
}

fn heads() -> Vec<Shape> {
    let ten = (0..10).map(|at| get(&format!("X-Number: {at}\r\n")));
    let own =
        "X-Own: yes\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let large = format!("X-Large: {}\r\n", "z".repeat(30_000));
    let one = get("");
    let (line, rest) = one.split_at(9);
    let (most, end) = one.split_at(20);
    let bytes = one.chars().map(String::from);
    let absolute = "GET http://harm/mirror HTTP/1.1\r\nHost: harm\r\n\r\n";
    vec![
        ("alone", vec![get("")], 1),
        ("ten in one write", vec![ten.collect()], 10),
        ("byte by byte", bytes.collect(), 1),
        ("in two", vec![line.into(), rest.into()], 1),
        ("one and a half", vec![get("") + most, end.into()], 2),
        ("with a context of its own", vec![get(own)], 1),
        ("a head of 30 kB", vec![get(&large)], 1),
        ("absolute", vec![absolute.into()], 1),
        (
            "without a Host",
            vec!["OPTIONS * HTTP/1.1\r\n\r\n".into()],
            1,
        ),
    ]
}

/// Bodies that look like requests are none.
fn bodies() -> Vec<Shape> {
    let size = DECOY.len();
    let head = format!("POST /mirror/b HTTP/1.1\r\nHost: harm\r\nContent-Length: {size}\r\n\r\n");
    let mixed = get("") + &head + DECOY + &get("") + &head + DECOY;
    let chunked = [
        "POST /mirror/c HTTP/1.1\r\nHost: harm\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "5\r\nhello\r\n".into(),
        format!("{size:x}\r\n{DECOY}\r\n"),
        format!("{size:x}\r\n"),
        DECOY.into(),
        "\r\n".into(),
        "0\r\nX-Trailer: yes\r\n\r\n".into(),
    ];
    vec![
        ("with bodies in one write", vec![mixed], 4),
        ("body by itself", vec![head, DECOY.into()], 1),
        ("chunked in one write", vec![chunked.concat()], 1),
        ("chunked, a write each", chunked.into(), 1),
    ]
}

fn get(more: &str) -> String {
    format!("GET /mirror/a HTTP/1.1\r\nHost: harm\r\n{more}\r\n")
}

const DECOY: &str = "GET /decoy HTTP/1.1\r\nHost: harm\r\n\r\n";
