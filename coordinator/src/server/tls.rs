//! TLS on the coordinator's port: its certificate, the authorities that it trusts, what is revoked, and the tokens.
//! The files are read again when they change; those that cannot be used leave the ones before in force.

use std::{
    collections::BTreeSet,
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use jiff::Timestamp;
use proto::{
    certificate::Certificate,
    identity::Identity,
    tls::{self, AUTHORITY, NODE, Stamp, TlsError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
    },
    server::TlsStream,
};

use crate::tokens::{TokenError, Tokens};

/// Serial numbers of revoked certificates in hexadecimal, one a line; `#` begins a comment.
pub const REVOKED: &str = "revoked";

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a coordinator with TLS finds what it needs.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// A folder with `ca.crt`, `node.crt`, `node.key` and perhaps `revoked`.
    pub certs_dir: PathBuf,
    /// The file of tokens. Without one, every client needs a certificate.
    pub tokens: Option<PathBuf>,
    /// The trust domain of the SPIFFE ids that give roles.
    pub trust_domain: String,
}

/// What is in force.
struct Loaded {
    stamp: Stamp,
    config: Arc<ServerConfig>,
    revoked: BTreeSet<String>,
    tokens: Tokens,
}

/// Whom the coordinator trusts.
pub(super) struct Trust {
    files: TlsFiles,
    loaded: RwLock<Arc<Loaded>>,
}

impl Trust {
    /// Reads the files, and goes on doing so when they change. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If they cannot be used.
    pub(super) fn open(files: TlsFiles) -> Result<Arc<Self>, TokenError> {
        let loaded = RwLock::new(Arc::new(load(&files)?));
        let trust = Arc::new(Self { files, loaded });
        tokio::spawn(watch(Arc::downgrade(&trust)));
        Ok(trust)
    }

    fn current(&self) -> Arc<Loaded> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&loaded)
    }

    fn reload(&self) {
        if !self.current().stamp.has_changed() {
            return;
        }
        match load(&self.files) {
            Ok(newer) => {
                tracing::info!(dir = %self.files.certs_dir.display(), "read certificates and tokens again");
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
            }
            // A key and its certificate are replaced one after the other.
            Err(error) => {
                tracing::warn!(
                    "the new certificates or tokens cannot be used, the old ones are: {error}"
                );
            }
        }
    }

    /// Greets a client: TLS, and the certificate that it shows, if any.
    ///
    /// # Errors
    /// A reason for the log.
    pub(super) async fn accept(
        &self,
        mut stream: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, Option<Certificate>), io::Error> {
        /// The first byte of a record that begins a handshake.
        const HANDSHAKE: u8 = 22;
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            refuse_plaintext(&mut stream).await?;
            return Err(io::Error::other("it speaks no TLS"));
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current().config));
        let stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // Closed with bytes unread, the connection would be reset, and the alert lost on its way.
                drain(&mut stream).await;
                return Err(error);
            }
        };
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let certificate = shown.map(|der| Certificate::parse(der, &self.files.trust_domain));
        let certificate = certificate.transpose().map_err(io::Error::other)?;
        Ok((Box::new(stream), certificate))
    }

    /// Who makes a call with this token, or else with this certificate, and whether a token said so.
    ///
    /// # Errors
    /// A reason for the caller.
    pub(super) fn identify(
        &self,
        certificate: Option<&Certificate>,
        token: Option<&str>,
    ) -> Result<(Identity, bool), String> {
        let loaded = self.current();
        // A revoked certificate does not become good by a token.
        if let Some(certificate) = certificate
            && loaded
                .revoked
                .contains(certificate.serial.trim_start_matches('0'))
        {
            return Err(format!(
                "the certificate with serial number {} is revoked",
                certificate.serial
            ));
        }
        if let Some(token) = token {
            return Ok((loaded.tokens.identify(token, Timestamp::now())?, true));
        }
        let certificate = certificate.ok_or("there is neither a client certificate nor a token")?;
        let identity = certificate.identity.clone().ok_or_else(|| {
            let domain = &self.files.trust_domain;
            format!(
                "the certificate has no name spiffe://{domain}/ROLE/NAME that would give it a role"
            )
        })?;
        Ok((identity, false))
    }
}

async fn watch(trust: Weak<Trust>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(trust) = trust.upgrade() else { return };
        // Some file systems take their time.
        let looked = tokio::task::spawn_blocking(move || trust.reload()).await;
        if looked.is_err() {
            return;
        }
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, TokenError> {
    let dir = &files.certs_dir;
    let (certificate, revoked) = (dir.join(NODE), dir.join(REVOKED));
    let key = certificate.with_extension("key");
    let named = [
        dir.join(AUTHORITY),
        certificate.clone(),
        key.clone(),
        revoked.clone(),
    ];
    // Before they are read: what changes meanwhile is read again.
    let stamp = Stamp::of(named.into_iter().chain(files.tokens.clone()));
    let unusable = |reason: String| TlsError::Certificate {
        path: certificate.clone(),
        reason,
    };
    let tokens = files.tokens.as_deref().map(Tokens::read).transpose()?;
    let roots = Arc::new(tls::authorities(dir)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider());
    let verifier = match files.tokens {
        Some(_) => verifier.allow_unauthenticated(),
        None => verifier,
    };
    let verifier = verifier
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(tls::certificates(&certificate)?, tls::private_key(&key)?)
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would keep a certificate that has expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let own = tls::certificate(&certificate)?;
    if own.not_after < Timestamp::now() {
        tracing::warn!(
            "the coordinator's certificate {} expired at {}; renew it with `unisono certs renew`",
            certificate.display(),
            own.not_after
        );
    }
    Ok(Loaded {
        stamp,
        config: Arc::new(config),
        revoked: read_revoked(revoked)?,
        tokens: tokens.unwrap_or_default(),
    })
}

fn read_revoked(path: PathBuf) -> Result<BTreeSet<String>, TlsError> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => return Err(TlsError::Read { path, source }),
    };
    let entry = |line: &str| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .trim()
            .to_lowercase()
    };
    let entries: BTreeSet<String> = text
        .lines()
        .map(entry)
        .filter(|line| !line.is_empty())
        .map(|serial| serial.trim_start_matches('0').to_owned())
        .collect();
    match entries
        .iter()
        .find(|serial| !serial.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        Some(_) => Err(TlsError::Certificate {
            path,
            reason: "each line is a serial number in hexadecimal, or a comment after `#`"
                .to_owned(),
        }),
        None => Ok(entries),
    }
}

/// Tells a client of HTTP/2 in plaintext why nothing comes of it: SETTINGS, and a GOAWAY with the reason
/// INADEQUATE_SECURITY and a text (RFC 9113, 6.8).
async fn refuse_plaintext(stream: &mut TcpStream) -> io::Result<()> {
    const INADEQUATE_SECURITY: u32 = 0xc;
    let text = tls::TLS_ONLY.as_bytes();
    let length = u8::try_from(8 + text.len()).unwrap_or(u8::MAX);
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    frames.extend([0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(text);
    // A client that is told before it has asked takes it for a connection that broke.
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream.write_all(&frames).await?;
    drain(stream).await;
    Ok(())
}

/// Ends this side, and reads what the peer has under way for a moment.
async fn drain(stream: &mut TcpStream) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST_READS: usize = 64;
    let _ = stream.shutdown().await;
    let read = async {
        let mut sink = [0; 4096];
        for _ in 0..MOST_READS {
            if !matches!(stream.read(&mut sink).await, Ok(1..)) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, read).await;
}
