//! TLS on both sides: Warren's own authority and certificate, or the operator's, towards clients; no
//! questions asked towards apps, which have certificates of their own making.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
    },
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long Warren's authority is good for; a new one is made after its files were removed.
const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// How long a certificate is good for that is made at each start. Clients refuse more than 398 days.
const CERTIFICATE_LIFE: Duration = Duration::days(397);
/// Clocks that are behind accept it too.
const SLACK: Duration = Duration::days(1);

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: cannot be {action}")]
    File {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path}: holds no {what} in PEM form")]
    Pem {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("no certificate can be made for *.{domain}")]
    Make {
        domain: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("the key in {path} cannot be used")]
    Key {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("the certificate and the key do not belong together")]
    Unfit(#[source] rustls::Error),
}

/// A chain and its key.
#[derive(Clone)]
pub struct Certificate(Arc<rustls::sign::CertifiedKey>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.0.cert.len()).finish_non_exhaustive()
    }
}

/// The certificate of Warren's authority, below the gateway's directory.
pub fn authority_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

impl Certificate {
    /// One that the operator has.
    ///
    /// # Errors
    /// [`TlsError`] with the file's name.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |path: &Path, what| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, what, source }
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(pem(chain, "certificate"))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key, "private key"))?;
        Self::new(certificates, key)
    }

    /// One for every endpoint below `domain`, by the authority in `dir`, which is made where there is
    /// none.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn self_signed(dir: &Path, domain: &str) -> Result<Self, TlsError> {
        let make = |source| TlsError::Make { domain: domain.to_owned(), source };
        let (authority, der) = authority(dir)?;
        let names =
            vec![format!("*.{domain}"), domain.into(), "localhost".into(), "127.0.0.1".into()];
        let mut params = CertificateParams::new(names).map_err(make)?;
        params.distinguished_name.push(DnType::CommonName, format!("*.{domain}"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - SLACK;
        params.not_after = now + CERTIFICATE_LIFE;
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &authority).map_err(make)?;
        let chain = vec![certificate.der().clone(), der];
        Self::new(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(TlsError::Unfit)?;
        let certified = rustls::sign::CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Self(Arc::new(certified)))
            }
            Err(error) => Err(TlsError::Unfit(error)),
        }
    }

    /// For a server that offers these protocols.
    pub fn server_config(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let resolver = rustls::sign::SingleCertAndKey::from(self.0.clone());
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has all that TLS 1.2 and 1.3 need");
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Warren's authority, with its certificate as it was first written.
fn authority(dir: &Path) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), TlsError> {
    let file = |path: &Path, action| {
        let path = path.to_owned();
        move |source| TlsError::File { path, action, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir, "made"))?;
    let (key_path, path) = (dir.join("ca.key"), authority_path(dir));
    let key = match fs::read_to_string(&key_path) {
        Ok(text) => KeyPair::from_pem(&text)
            .map_err(|source| TlsError::Key { path: key_path.clone(), source })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate()
                .map_err(|source| TlsError::Key { path: key_path.clone(), source })?;
            write(&key_path, &key.serialize_pem(), 0o600).map_err(file(&key_path, "written"))?;
            // One of an earlier key is of no use.
            let _ = fs::remove_file(&path);
            key
        }
        Err(error) => return Err(file(&key_path, "read")(error)),
    };
    let params = authority_params();
    if !path.exists() {
        let made = params
            .self_signed(&key)
            .map_err(|source| TlsError::Make { domain: "its authority".into(), source })?;
        write(&path, &made.pem(), 0o644).map_err(file(&path, "written"))?;
    }
    let der = CertificateDer::from_pem_file(&path).map_err(|source| TlsError::Pem {
        path,
        what: "certificate",
        source,
    })?;
    Ok((Issuer::new(params, key), der))
}

/// All that a certificate of the authority's depends on is its name and key, so that these can be
/// made again for each start.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Warren");
    params.distinguished_name.push(DnType::CommonName, "Warren endpoints");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SLACK;
    params.not_after = now + AUTHORITY_LIFE;
    params
}

/// Whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// TLS towards an endpoint of Warren's, for its own commands: trusts what is in the file `trusted`.
///
/// # Errors
/// Where the file cannot be used, or the endpoint shows another certificate.
pub async fn connect_trusting(
    stream: TcpStream,
    host: &str,
    trusted: &Path,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(trusted)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| io::Error::other(format!("{}: {e}", trusted.display())))?;
    roots.add_parsable_certificates(certificates);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// TLS towards an app.
pub(crate) async fn connect(
    stream: TcpStream,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let verifier = Arc::new(AnyCertificate(provider()));
    let mut config = ClientConfig::builder_with_provider(verifier.0.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Takes whatever certificate an app has: the way to it is the VM's own, and leads nowhere else.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("gateway");
        Certificate::self_signed(&dir, "lambda-microvm.us-east-1.localhost").unwrap();
        let first = fs::read(authority_path(&dir)).unwrap();
        Certificate::self_signed(&dir, "lambda-microvm.us-east-1.localhost").unwrap();
        assert_eq!(fs::read(authority_path(&dir)).unwrap(), first);
        let mode = fs::metadata(dir.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        fs::write(&chain, "nothing").unwrap();
        fs::write(&key, "nothing").unwrap();
        let error = Certificate::from_files(&chain, &key).unwrap_err().to_string();
        assert!(error.contains("k.pem") || error.contains("c.pem"), "{error}");
    }
}
