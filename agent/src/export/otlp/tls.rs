//! Whom to trust and who we are, from PEM files or the system's store; rustls with ring.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::config::Otlp;

/// For reqwest.
pub fn rustls(config: &Otlp) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // Plain HTTP needs no roots, and a machine may well have none.
    if config.endpoint.starts_with("https:") {
        match &config.certificate {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .with_context(|| format!("a certificate of {}", path.display()))?;
                }
            }
            None => add_native(&mut roots)?,
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_root_certificates(roots);
    match identity(config)? {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let parsed = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("read the client's key {}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, parsed)
                .with_context(|| {
                    let (certificate, key) = (certificate.display(), key.display());
                    format!("use the client's certificate {certificate} with its key {key}")
                })
        }
    }
}

/// For tonic.
pub fn tonic(config: &Otlp) -> anyhow::Result<ClientTlsConfig> {
    // Read first by our own code, for messages that name the file.
    rustls(config)?;
    let mut tls = match &config.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = identity(config)? {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

fn add_native(roots: &mut RootCertStore) -> anyhow::Result<()> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    ensure!(
        added > 0,
        "no trusted certificates on this machine: install ca-certificates, or name a file in \
         OTEL_EXPORTER_OTLP_CERTIFICATE"
    );
    Ok(())
}

/// The client's certificate and key: both or neither.
fn identity(config: &Otlp) -> anyhow::Result<Option<(&Path, &Path)>> {
    match (&config.client_certificate, &config.client_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        _ => anyhow::bail!(
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together"
        ),
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("read certificates from {}", path.display()))?;
    ensure!(
        !certificates.is_empty(),
        "no certificate in {}",
        path.display()
    );
    Ok(certificates)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}
