//! An authority of the tests' own, and certificates by it for a server on loopback and a client.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// PEM files.
pub struct Certificates {
    /// Who is to be trusted.
    pub authority: PathBuf,
    /// For 127.0.0.1 and localhost.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// For a client.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in a folder; `name` keeps several authorities apart.
    pub fn make(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let write = |kind: &str, text: &str| -> Result<PathBuf> {
            let file = folder.join(format!("{name}-{kind}.pem"));
            fs::write(&file, text)?;
            Ok(file)
        };
        let issue = |kind: &str, names: &[&str]| -> Result<(PathBuf, PathBuf)> {
            let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
            Ok((
                write(kind, &certificate.pem())?,
                write(&format!("{kind}-key"), &key.serialize_pem())?,
            ))
        };
        let (server, server_key) = issue("server", &["localhost", "127.0.0.1"])?;
        let (client, client_key) = issue("client", &["client"])?;
        Ok(Self {
            authority: write("authority", &authority.pem())?,
            server,
            server_key,
            client,
            client_key,
        })
    }
}
