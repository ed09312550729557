// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Certificates and keys for IPFIX over TLS (RFC 7011 section 11.3), from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// Certificate chain of the collector, its own certificate first.
    pub certificates: PathBuf,
    /// Private key of the first certificate.
    pub key: PathBuf,
    /// Authorities one of which must have signed the exporter's certificate; without, exporters need none.
    pub authorities: Option<PathBuf>,
}

/// Reads the files. TLS 1.2 and 1.3 are spoken.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.certificates)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        format!("cannot read a private key from {}: {error}; it must be PEM", files.key.display())
    })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    let builder = match &files.authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    format!("a certificate in {} is no authority: {error}", path.display())
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("cannot verify certificates by {}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        format!(
            "the certificate in {} and the key in {} cannot be used: {error}; they must belong together",
            files.certificates.display(),
            files.key.display()
        )
    })?;
    // Exporters only send. Tickets that one has not read when it closes its socket make its kernel reset the
    // connection (RFC 1122 section 4.2.2.13), and what was still on its way is lost.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(found) if found.is_empty() => Err(format!("no certificate in {}; it must be PEM", path.display())),
        Ok(found) => Ok(found),
        Err(error) => {
            Err(format!("cannot read certificates from {}: {error}; they must be PEM", path.display()))
        }
    }
}
