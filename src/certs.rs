//! A cluster's own authority: it makes certificates for coordinators and clients. The layout of the files is that of
//! [`proto::tls`]; the authority's key lies in a folder of its own.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use proto::{
    identity::{Role, is_name, spiffe_id},
    tls::{self, AUTHORITY, NODE, TlsError},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use speech::{
    error_class::{Class, Classify},
    output_file::{self, OutputError},
};
use time::{Duration, OffsetDateTime};

/// The authority's key.
pub(crate) const AUTHORITY_KEY: &str = "ca.key";
const AUTHORITY_NAME: &str = "unisono authority";
const AUTHORITY_DAYS: u32 = 3650;
/// So far a clock may be behind the one that a certificate was made by.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertsError {
    #[error(transparent)]
    Files(#[from] TlsError),
    #[error(transparent)]
    Write(#[from] OutputError),
    #[error("cannot create {}: {source}", path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("there is {} already; `unisono certs renew` replaces a certificate, and another folder keeps another cluster", .0.display())]
    Exists(PathBuf),
    #[error(
        "{0:?} cannot be a name: 1 to 64 letters, digits, `.`, `_` and `-` of ASCII, the first a letter or a digit"
    )]
    Name(String),
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Host(String),
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    OtherKey { key: PathBuf, certificate: PathBuf },
}

impl Classify for CertsError {
    fn class(&self) -> Class {
        match self {
            Self::Write(error) => error.class(),
            Self::Make(_) => Class::Infrastructure,
            _ => Class::Data,
        }
    }
}

/// Whose a certificate is to be.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    name: String,
    /// A client has roles.
    roles: Vec<Role>,
    /// A coordinator has hosts.
    hosts: Vec<String>,
}

impl Subject {
    /// A client of this name.
    ///
    /// # Errors
    /// If that is no name.
    pub(crate) fn client(name: &str, roles: Vec<Role>) -> Result<Self, CertsError> {
        if !is_name(name) {
            return Err(CertsError::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            roles,
            hosts: Vec::new(),
        })
    }

    /// A coordinator that is reached by these names and addresses.
    ///
    /// # Errors
    /// If one is neither.
    pub(crate) fn node(name: &str, hosts: Vec<String>) -> Result<Self, CertsError> {
        let is_dns = |host: &str| {
            host.len() <= 253
                && host.split('.').all(|label| {
                    let within =
                        |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                    (1..=63).contains(&label.len()) && label.bytes().all(within)
                })
        };
        match hosts
            .iter()
            .find(|host| host.parse::<IpAddr>().is_err() && !is_dns(host))
        {
            Some(wrong) => Err(CertsError::Host(wrong.clone())),
            None => Ok(Self {
                name: name.to_owned(),
                roles: Vec::new(),
                hosts,
            }),
        }
    }

    /// The name of its file.
    pub(crate) fn file(&self) -> String {
        if self.hosts.is_empty() {
            format!("client.{}.crt", self.name)
        } else {
            NODE.to_owned()
        }
    }

    fn params(&self, days: u32) -> Result<CertificateParams, CertsError> {
        let mut params = CertificateParams::default();
        validity(&mut params, days);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for host in &self.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        for role in &self.roles {
            let id = spiffe_id(*role, &self.name);
            params
                .subject_alt_names
                .push(SanType::URI(id.as_str().try_into()?));
        }
        // A worker's certificate must not make it a coordinator, nor the other way round.
        params.extended_key_usages = vec![if self.hosts.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        Ok(params)
    }
}

fn validity(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(days.into());
}

/// Who signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM.
    pem: String,
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    validity(&mut params, AUTHORITY_DAYS);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// Makes an authority: its certificate in `certs`, its key in `dir`.
    ///
    /// # Errors
    /// If there is one, or files cannot be written.
    pub(crate) fn create(certs: &Path, dir: &Path, days: u32) -> Result<Self, CertsError> {
        let (certificate, key) = (certs.join(AUTHORITY), dir.join(AUTHORITY_KEY));
        for path in [&certificate, &key] {
            if path.exists() {
                return Err(CertsError::Exists(path.clone()));
            }
        }
        for folder in [certs, dir] {
            private_folder(folder)?;
        }
        let pair = KeyPair::generate()?;
        let mut params = authority_params();
        validity(&mut params, AUTHORITY_DAYS.max(days));
        let pem = params.self_signed(&pair)?.pem();
        write(&key, &pair.serialize_pem())?;
        write(&certificate, &pem)?;
        Ok(Self {
            issuer: Issuer::new(params, pair),
            pem,
        })
    }

    /// The authority whose certificate is in `certs` and whose key is in `dir`.
    ///
    /// # Errors
    /// If they cannot be read, others can read the key, or it is another authority's.
    pub(crate) fn open(certs: &Path, dir: &Path) -> Result<Self, CertsError> {
        let (certificate, key) = (certs.join(AUTHORITY), dir.join(AUTHORITY_KEY));
        tls::authorities(certs)?;
        tls::private_key(&key)?;
        let pair = KeyPair::from_pem(&tls::secret_text(&key)?)?;
        let read = fs::read_to_string(&certificate);
        let pem = read.map_err(|source| TlsError::Read {
            path: certificate.clone(),
            source,
        })?;
        // The public key stands in the certificate as it is. Of several, the newest authority comes first.
        let first = tls::certificates(&certificate)?;
        let public = pair.public_key_raw();
        let has = |der: &[u8]| der.windows(public.len()).any(|part| part == public);
        if !first.first().is_some_and(|der| has(der)) {
            return Err(CertsError::OtherKey { key, certificate });
        }
        Ok(Self {
            issuer: Issuer::new(authority_params(), pair),
            pem,
        })
    }

    /// Makes a certificate with a new key in `dir`, in place of one of the same name, and puts the authority's
    /// certificate beside it. Gives the path.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn issue(
        &self,
        dir: &Path,
        subject: &Subject,
        days: u32,
    ) -> Result<PathBuf, CertsError> {
        private_folder(dir)?;
        let pair = KeyPair::generate()?;
        let made = subject.params(days)?.signed_by(&pair, &self.issuer)?;
        let path = dir.join(subject.file());
        // Whoever reads one of the two anew finds that they do not fit, and reads again.
        write(&path.with_extension("key"), &pair.serialize_pem())?;
        write(&path, &made.pem())?;
        let authority = dir.join(AUTHORITY);
        if !authority.exists() {
            write(&authority, &self.pem)?;
        }
        Ok(path)
    }
}

fn private_folder(path: &Path) -> Result<(), CertsError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|source| CertsError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file that nobody but its owner can read: a new one is made with mode 0600 whatever the umask is.
fn write(path: &Path, text: &str) -> Result<(), CertsError> {
    use std::os::unix::fs::PermissionsExt as _;
    output_file::write(path, &|out| out.write_all(text.as_bytes()))?;
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, private).map_err(|error| {
        OutputError::Write {
            path: path.to_owned(),
            error,
        }
        .into()
    })
}
