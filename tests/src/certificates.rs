//! An authority of the tests' own, and certificates by it for a server on loopback and a client.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

/// PEM files.
pub struct Certificates {
    /// Who is to be trusted.
    pub authority: PathBuf,
    /// For localhost and [`ADDRESSES`].
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
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
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
            let mut params = CertificateParams::new(names)?;
            // Python 3.13 and later take no certificate without.
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &authority)?;
            Ok((
                write(kind, &certificate.pem())?,
                write(&format!("{kind}-key"), &key.serialize_pem())?,
            ))
        };
        let names = [&["localhost"], &ADDRESSES[..]].concat();
        let (server, server_key) = issue("server", &names)?;
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

/// Addresses of loopback that a server may have.
pub const ADDRESSES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
