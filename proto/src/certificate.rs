//! What a certificate says: whose it is, for which roles and hosts, and from when until when it is valid. Whether
//! to trust it is decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use thiserror::Error;
use x509_cert::{
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
    time::Time,
};

use crate::identity::{self, Identity, Role, Roles};

/// A certificate that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("it is no certificate of X.509: {0}")]
pub struct BadCertificate(String);

/// A certificate, as far as it concerns a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// By the SPIFFE ids among its names; `None` if it has none of the trust domain.
    pub identity: Option<Identity>,
    /// DNS names and IP addresses that a server with this certificate may be called by.
    pub hosts: Vec<String>,
    /// The serial number in hexadecimal, in lower case.
    pub serial: String,
    /// It is not valid before.
    pub not_before: Timestamp,
    /// It is not valid after.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads a certificate in DER, with roles of the trust domain `domain`. The signature is not looked at.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(der: &[u8], domain: &str) -> Result<Self, BadCertificate> {
        let bad = |error: x509_cert::der::Error| BadCertificate(error.to_string());
        let parsed = x509_cert::Certificate::from_der(der)
            .map_err(bad)?
            .tbs_certificate;
        let names = parsed.get::<SubjectAltName>().map_err(bad)?;
        let (mut hosts, mut ids) = (Vec::new(), Vec::<(Role, String)>::new());
        for name in names.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(host) => hosts.push(host.to_string()),
                GeneralName::IpAddress(bytes) => hosts.extend(address(bytes.as_bytes())),
                GeneralName::UniformResourceIdentifier(uri) => {
                    ids.extend(identity::of_spiffe_id(uri.as_ref(), domain));
                }
                _ => {}
            }
        }
        let identity = ids.first().map(|(_, name)| Identity {
            name: name.clone(),
            // One certificate is of one name: roles of others do not add up.
            roles: ids
                .iter()
                .filter(|(_, other)| other == name)
                .map(|(role, _)| *role)
                .collect::<Roles>(),
        });
        let serial = parsed.serial_number.as_bytes();
        Ok(Self {
            identity,
            hosts,
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: timestamp(parsed.validity.not_before),
            not_after: timestamp(parsed.validity.not_after),
        })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(ip.to_string())
}

fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
