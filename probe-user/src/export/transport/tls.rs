// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX over TLS (RFC 7011 section 11.1): the collector's certificate is always checked, ours is shown if it is given.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use socket2::{Protocol, Type};

use super::{
    SinkError,
    outbox::Outbox,
    session::{Session, SessionTiming},
    socket::SocketOptions,
    wire::Wire,
};
use crate::export::url::CollectorUrl;

/// Authorities that distributions trust: Debian and its kin, then those of Red Hat.
const SYSTEM_AUTHORITIES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// TLS around messages.
#[derive(Debug)]
pub struct TlsWire {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Where the authorities came from, for messages.
    authorities: String,
    connection: Option<ClientConnection>,
    heard_since_ready: bool,
    over: bool,
}

/// A session over TLS.
pub type TlsSink = Session<TlsWire>;

impl TlsSink {
    /// Reads certificates and key, and resolves; the connection follows with the first
    /// [`tend`](super::Sink::tend).
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn open(collector: &CollectorUrl, timing: SessionTiming) -> Result<Self, SinkError> {
        let wire = TlsWire::new(collector)
            .map_err(|problem| SinkError::Tls { url: collector.to_string(), problem })?;
        let options = SocketOptions::new(collector, Type::STREAM, Protocol::TCP);
        Self::new(collector, options, timing, wire)
    }
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found =
        found.map_err(|cause| format!("cannot read {option}={path}: {cause}; it must be a PEM file"))?;
    if found.is_empty() {
        return Err(format!("{option}={path} holds no certificate; it must be a PEM file with at least one"));
    }
    Ok(found)
}

/// The authorities, and where they came from.
fn authorities(collector: &CollectorUrl) -> Result<(RootCertStore, String), String> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &collector.ca {
        for certificate in certificates("ca", path)? {
            store
                .add(certificate)
                .map_err(|cause| format!("ca={path} holds a certificate that is none: {cause}"))?;
        }
        return Ok((store, path.clone()));
    }
    let Some(path) = SYSTEM_AUTHORITIES.into_iter().find(|path| Path::new(path).exists()) else {
        let paths = SYSTEM_AUTHORITIES.join(" and ");
        return Err(format!(
            "no 'ca' is given, and the system's authorities are not at {paths}; install ca-certificates, or give \
             ca=FILE"
        ));
    };
    // Bundles hold some that are not usable here; the others count.
    store.add_parsable_certificates(certificates("the system's authorities", path)?);
    Ok((store, path.to_owned()))
}

impl TlsWire {
    fn new(collector: &CollectorUrl) -> Result<Self, String> {
        let (store, authorities) = authorities(collector)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| cause.to_string())?
            .with_root_certificates(store);
        let config = match (&collector.cert, &collector.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates("cert", certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|cause| {
                    format!("cannot read key={key}: {cause}; it must be a PEM file with a private key, unencrypted")
                })?;
                builder.with_client_auth_cert(chain, secret).map_err(|cause| {
                    format!("cert={certificate} and key={key} do not fit together: {cause}")
                })?
            }
            (Some(_), None) => return Err("'cert' is given without 'key'; give key=FILE as well".to_owned()),
            (None, Some(_)) => return Err("'key' is given without 'cert'; give cert=FILE as well".to_owned()),
        };
        let name = collector.server_name.as_ref().unwrap_or(&collector.host);
        let name = ServerName::try_from(name.clone())
            .map_err(|_| format!("'{name}' is no name that a certificate can have; give server_name=NAME"))?;
        Ok(Self {
            config: Arc::new(config),
            name,
            authorities,
            connection: None,
            heard_since_ready: false,
            over: false,
        })
    }

    /// Moves what the connection wants to say to the outbox.
    fn pull(connection: &mut ClientConnection, outbox: &mut Outbox) {
        while connection.wants_write() {
            if connection.write_tls(outbox.queue()).is_err() {
                // A vector takes everything.
                break;
            }
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        use CertificateError::{
            Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
        };
        let name = self.name.to_str();
        let advice = match error {
            rustls::Error::InvalidCertificate(UnknownIssuer) => {
                format!(
                    "no authority in {} signed the collector's certificate; give ca=FILE",
                    self.authorities
                )
            }
            rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
                "the collector's certificate has expired, or the clock of this host is wrong".to_owned()
            }
            rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
                format!("the collector's certificate is not for '{name}'; give server_name=NAME")
            }
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::AccessDenied
                | AlertDescription::HandshakeFailure,
            ) => "the collector does not accept our certificate, or wants one; check cert and key".to_owned(),
            _ => "check that the collector speaks TLS 1.2 or 1.3 on this port".to_owned(),
        };
        format!("{error}; {advice}")
    }
}

impl Wire for TlsWire {
    const PROTOCOL: u8 = 6;

    fn begin(&mut self, outbox: &mut Outbox) -> Result<(), String> {
        (self.heard_since_ready, self.over) = (false, false);
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|cause| self.explain(&cause))?;
        // The outbox is what bounds it.
        connection.set_buffer_limit(None);
        Self::pull(&mut connection, outbox);
        self.connection = Some(connection);
        Ok(())
    }

    fn hear(&mut self, mut octets: &[u8], outbox: &mut Outbox) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        self.heard_since_ready |= !connection.is_handshaking();
        while !octets.is_empty() && !self.over {
            let processed = match connection.read_tls(&mut octets) {
                Ok(0) => break,
                Ok(_) => connection.process_new_packets(),
                Err(error) => Err(rustls::Error::General(error.to_string())),
            };
            let state = match processed {
                Ok(state) => state,
                Err(error) => {
                    Self::pull(connection, outbox);
                    return Err(self.explain(&error));
                }
            };
            self.over = state.peer_has_closed();
            // A collector has nothing to say over IPFIX.
            let mut sink = [0; 1024];
            while connection.reader().read(&mut sink).is_ok_and(|octets| octets > 0) {}
        }
        Self::pull(connection, outbox);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_handshaking())
    }

    /// In TLS 1.3 our certificate is judged after our side of the handshake is over (RFC 8446 section 2).
    fn may_refuse(&self) -> bool {
        let version = self.connection.as_ref().and_then(|connection| connection.protocol_version());
        version == Some(ProtocolVersion::TLSv1_3) && !self.heard_since_ready
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn say(&mut self, message: &[u8], outbox: &mut Outbox) {
        use std::io::Write;
        let Some(connection) = &mut self.connection else { return };
        // Without a limit it takes everything.
        connection.writer().write_all(message).ok();
        Self::pull(connection, outbox);
    }

    fn end(&mut self, outbox: &mut Outbox) {
        if let Some(connection) = &mut self.connection {
            connection.send_close_notify();
            Self::pull(connection, outbox);
        }
    }
}
