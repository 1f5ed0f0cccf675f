//! The files of a folder of certificates, and TLS as clients of a coordinator speak it. A folder is laid out as
//! CockroachDB's: `ca.crt`, `node.crt` with `node.key` for a coordinator, `client.NAME.crt` with
//! `client.NAME.key` for the others. Files that change are read again with the next connection.

use std::{
    error::Error,
    fs,
    future::Future,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{io::AsyncBufReadExt as _, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};
use tonic::codegen::{Service, http::Uri};

use crate::{
    certificate::Certificate,
    identity::{Role, TRUST_DOMAIN},
};

/// The certificates of the authorities that a folder trusts.
pub const AUTHORITY: &str = "ca.crt";
/// A coordinator's certificate.
pub const NODE: &str = "node.crt";

/// What a coordinator with TLS answers to plaintext, so that clients can tell what is wrong.
pub const TLS_ONLY: &str = "this port speaks TLS alone";

/// Why files of certificates cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum TlsError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "others than its owner can read {} (mode {mode:04o}), which is a secret; run `chmod 600` on it, and replace it if somebody may have read it",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is longer than {MAX_FILE_BYTES} bytes, which no such file is", path.display())]
    Long { path: PathBuf },
    #[error("{} holds no {what}", path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("the certificate {} cannot be used: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error(
        "{} holds no client certificate (client.NAME.crt); write one with `unisono certs client NAME --role ROLE`",
        dir.display()
    )]
    NoClient { dir: PathBuf },
    #[error(
        "{} holds several client certificates that fit ({names}); keep one of them in a folder of its own",
        dir.display()
    )]
    Several { dir: PathBuf, names: String },
    #[error("{} holds no token; write one with `unisono token create`", path.display())]
    NoToken { path: PathBuf },
}

/// Bytes of the largest file of certificates, keys or tokens that is read.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// The cryptography that both sides use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(path: &Path, secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    // A pipe would wait for a writer.
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let file = fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.mode() & 0o777;
    // Kubernetes mounts secrets as root's, readable by the group of the pod.
    let allowed = if meta.uid() == 0 { 0o740 } else { 0o700 };
    if secret && mode & !allowed != 0 {
        let path = path.to_owned();
        return Err(TlsError::Exposed { path, mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsError::Long {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// See [`TlsError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, false)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Empty {
            path: path.to_owned(),
            what: "certificate in PEM",
        }),
    }
}

/// What the first certificate of a PEM file says, with roles of [`TRUST_DOMAIN`].
///
/// # Errors
/// See [`TlsError`].
pub fn certificate(path: &Path) -> Result<Certificate, TlsError> {
    let found = certificates(path)?;
    let first = found.first().map_or(&[][..], AsRef::as_ref);
    Certificate::parse(first, TRUST_DOMAIN).map_err(|error| TlsError::Certificate {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The private key in a PEM file that nobody but its owner can read.
///
/// # Errors
/// See [`TlsError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path, true)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Empty {
        path: path.to_owned(),
        what: "private key in PEM",
    })
}

/// The authorities of `dir`.
///
/// # Errors
/// See [`TlsError`].
pub fn authorities(dir: &Path) -> Result<RootCertStore, TlsError> {
    let path = dir.join(AUTHORITY);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate {
                path: path.clone(),
                reason: error.to_string(),
            })?;
    }
    Ok(roots)
}

/// The text of a file that nobody but its owner can read.
///
/// # Errors
/// See [`TlsError`].
pub fn secret_text(path: &Path) -> Result<String, TlsError> {
    String::from_utf8(read(path, true)?).map_err(|_| TlsError::Empty {
        path: path.to_owned(),
        what: "text in UTF-8",
    })
}

/// The text of a token file that nobody but its owner can read, without white space around it.
///
/// # Errors
/// See [`TlsError`].
pub fn token(path: &Path) -> Result<String, TlsError> {
    let text = String::from_utf8(read(path, true)?).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TlsError::NoToken {
            path: path.to_owned(),
        });
    }
    Ok(text.to_owned())
}

/// When files were written, and which they are, to see whether one was replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<FileVersion>)>);

/// When a file was written, its size in bytes and its inode.
type FileVersion = (SystemTime, u64, u64);

impl Stamp {
    /// The stamp of these files as they are now.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamp = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        };
        Self(
            paths
                .into_iter()
                .map(|path| (path.clone(), stamp(&path)))
                .collect(),
        )
    }

    /// Whether a file is other than it was.
    pub fn has_changed(&self) -> bool {
        Self::of(self.0.iter().map(|(path, _)| path.clone())) != *self
    }
}

/// The certificate in `dir` to work with as a worker, or else as somebody who asks for jobs.
fn client_certificate(dir: &Path, worker: bool) -> Result<Option<PathBuf>, TlsError> {
    let entries = fs::read_dir(dir).map_err(|source| TlsError::Read {
        path: dir.to_owned(),
        source,
    })?;
    let is_client = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("client.") && name.ends_with(".crt")
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_client)
        .collect();
    paths.sort();
    if paths.len() > 1 {
        let is_workers = |path: &PathBuf| {
            let identity = certificate(path).ok().and_then(|found| found.identity);
            identity.is_some_and(|identity| identity.roles.iter().eq([Role::Worker]))
        };
        paths.retain(|path| is_workers(path) == worker);
    }
    match &paths[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let names = several.iter().filter_map(|path| path.file_name());
            let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
            Err(TlsError::Several {
                dir: dir.to_owned(),
                names: names.join(", "),
            })
        }
    }
}

/// Connects with TLS, with the certificates that lie in a folder when it connects.
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    worker: bool,
    /// Without one, a client certificate is needed.
    has_token: bool,
    loaded: Mutex<(Stamp, Arc<ClientConfig>)>,
}

impl Connector {
    /// Reads the folder.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(crate) fn open(dir: &Path, worker: bool, has_token: bool) -> Result<Self, TlsError> {
        let loaded = Mutex::new(load(dir, worker, has_token)?);
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                worker,
                has_token,
                loaded,
            }),
        })
    }

    fn current(&self) -> Arc<ClientConfig> {
        let shared = &self.shared;
        let mut loaded = shared.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.0.has_changed() {
            match load(&shared.dir, shared.worker, shared.has_token) {
                Ok(newer) => {
                    tracing::info!(dir = %shared.dir.display(), "read the certificates again");
                    *loaded = newer;
                }
                // A key and its certificate are replaced one after the other.
                Err(error) => {
                    tracing::warn!(
                        "the new certificates cannot be used, the old ones are: {error}"
                    );
                }
            }
        }
        Arc::clone(&loaded.1)
    }
}

fn load(dir: &Path, worker: bool, has_token: bool) -> Result<(Stamp, Arc<ClientConfig>), TlsError> {
    let certificate = client_certificate(dir, worker)?;
    // Before they are read: what changes meanwhile is read again.
    let mut files = vec![dir.to_owned(), dir.join(AUTHORITY)];
    let key = certificate.as_ref().map(|path| path.with_extension("key"));
    files.extend(certificate.clone());
    files.extend(key.clone());
    let stamp = Stamp::of(files);
    let unusable = |error: rustls::Error| TlsError::Certificate {
        path: certificate.clone().unwrap_or_else(|| dir.join(AUTHORITY)),
        reason: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(authorities(dir)?);
    let mut config = match (&certificate, &key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(unusable)?,
        _ if has_token => builder.with_no_client_auth(),
        _ => {
            return Err(TlsError::NoClient {
                dir: dir.to_owned(),
            });
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be one of the certificate before.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((stamp, Arc::new(config)))
}

/// A connection that comes to nothing however often it is tried, until somebody mends a setting or a certificate.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Untrusted(String);

/// A connection with TLS, for tonic.
type Connected = TokioIo<TlsStream<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host.clone())?;
            let tls = TlsConnector::from(connector.current());
            let connected = match tls.connect(name, stream).await {
                Ok(stream) => judged(stream).await,
                Err(error) => Err(error),
            };
            match connected {
                Ok(stream) => Ok(TokioIo::new(stream)),
                Err(error) => Err(match explained_handshake(&error, &host) {
                    Some(told) => Untrusted(told).into(),
                    None => error.into(),
                }),
            }
        })
    }
}

/// Waits until the server has begun to speak, which it does at once (the SETTINGS of HTTP/2), or has refused the client's
/// certificate: a handshake of TLS 1.3 is over for the client before the server has seen that.
async fn judged(mut stream: TlsStream<TcpStream>) -> io::Result<TlsStream<TcpStream>> {
    const PATIENCE: Duration = Duration::from_secs(3);
    match tokio::time::timeout(PATIENCE, stream.fill_buf()).await {
        Ok(Err(error)) => Err(error),
        // What came is read by whoever reads next.
        Ok(Ok(_)) | Err(_) => Ok(stream),
    }
}

/// What a failed handshake means, if it is one that no repetition mends.
fn explained_handshake(error: &io::Error, host: &str) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let told = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the coordinator's certificate has expired; renew it there with `unisono certs renew`, or set this host's clock".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the coordinator's certificate is not valid yet; one of the two clocks is wrong".to_owned()
            }
            // Authorities may have the same name: then it is the signature that does not fit.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the coordinator's certificate is of another authority than {AUTHORITY} in the folder of certificates"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the coordinator's certificate is not for the host {host:?} ({reason}); add it there with `unisono certs node --host {host}`")
            }
            other => format!("the coordinator's certificate cannot be used: {other}"),
        },
        rustls::Error::InvalidMessage(_) => {
            "the coordinator there does not speak TLS; it has to be started with `--certs-dir`, or be reached by http://".to_owned()
        }
        rustls::Error::AlertReceived(_) => explained_text(&error.to_string())?,
        _ => return None,
    };
    Some(told)
}

/// What an alert, or the answer of a port with TLS to plaintext, means.
fn explained_text(text: &str) -> Option<String> {
    if text.contains(TLS_ONLY) {
        let told = "the coordinator there speaks TLS alone; write https:// and give `--certs-dir`";
        return Some(told.to_owned());
    }
    let alert = text.split_once("received fatal alert: ")?.1;
    let reason = [
        (
            "CertificateExpired",
            "it has expired, or is not valid yet by the clock there",
        ),
        (
            "UnknownCA",
            "it is of another authority than the coordinator trusts",
        ),
        ("CertificateRevoked", "it is revoked"),
        ("CertificateRequired", "there is none"),
        ("BadCertificate", "it is malformed"),
        ("UnsupportedCertificate", "it is not for clients"),
        ("CertificateUnknown", "it cannot be used"),
        (
            "DecryptError",
            "it is of another authority of the same name than the coordinator trusts",
        ),
        ("AccessDenied", "it may not connect"),
    ]
    .into_iter()
    .find(|(name, _)| alert.starts_with(name))?
    .1;
    Some(format!(
        "the coordinator does not accept this client's certificate: {reason}; see `unisono certs list`"
    ))
}

/// What an error of a connection or a call means, if it comes of TLS and no repetition mends it.
pub fn explained(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(untrusted) = error.downcast_ref::<Untrusted>() {
            return Some(untrusted.0.clone());
        }
        if let Some(told) = explained_text(&error.to_string()) {
            return Some(told);
        }
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            && let Some(told) = explained(inner)
        {
            return Some(told);
        }
        cause = error.source();
    }
    None
}
