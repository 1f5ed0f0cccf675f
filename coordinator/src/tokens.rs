//! Tokens: secrets that stand for a name and a role, for clients where certificates are too much. The file of a
//! coordinator has their digests alone, so that who reads it cannot use them.

use std::path::Path;

use jiff::Timestamp;
use proto::{
    identity::{Identity, Role, Roles, is_name},
    tls::{self, TlsError},
};
use serde::{Deserialize, Serialize};
use speech::{
    error_class::{Class, Classify},
    output_file,
};
use thiserror::Error;

/// What each token begins with, so that scanners for secrets find one that was published.
const PREFIX: &str = "unisono_";
/// Random bytes of a token. So many cannot be guessed, which is why a plain digest keeps them secret: slow password
/// hashes are for secrets that people choose.
const SECRET_BYTES: usize = 32;

/// Why tokens cannot be used or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum TokenError {
    #[error(transparent)]
    File(#[from] TlsError),
    #[error("{file}, line {line}: {reason}")]
    Line {
        file: String,
        line: usize,
        reason: String,
    },
    #[error(
        "{0:?} cannot be a name: 1 to 64 letters, digits, `.`, `_` and `-` of ASCII, the first a letter or a digit"
    )]
    Name(String),
    #[error("there is a token called `{0}`; revoke it first, or choose another name")]
    Exists(String),
    #[error("there is no token called `{0}`; `unisono token list` shows them")]
    Unknown(String),
    #[error("the system gives no random numbers")]
    Random,
    #[error("{file} cannot be written: {reason}")]
    Write { file: String, reason: String },
}

impl Classify for TokenError {
    fn class(&self) -> Class {
        match self {
            Self::Random | Self::Write { .. } => Class::Infrastructure,
            _ => Class::Data,
        }
    }
}

/// A token, without its secret. Serialised as a line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// The role, as [`Role::name`] has it.
    pub role: String,
    /// It is not valid after.
    pub expires: Timestamp,
    /// BLAKE3 of the whole text of the token, in hexadecimal.
    digest: String,
}

/// The tokens of a coordinator.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// Reads the file; one that does not exist has no tokens.
    ///
    /// # Errors
    /// If it cannot be read, others can read it, or a line is malformed.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = match tls::secret_text(path) {
            Err(TlsError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read?,
        };
        let malformed = |line: usize, reason: String| TokenError::Line {
            file: path.display().to_string(),
            line: line + 1,
            reason,
        };
        let lines = text.lines().enumerate();
        let parsed = lines
            .filter(|(_, text)| !text.trim().is_empty())
            .map(|(line, text)| {
                let token: Token = serde_json::from_str(text)
                    .map_err(|error| malformed(line, error.to_string()))?;
                token
                    .role
                    .parse::<Role>()
                    .map_err(|error| malformed(line, error.to_string()))?;
                if !is_name(&token.name) {
                    return Err(malformed(
                        line,
                        format!("the name {:?} is not one", token.name),
                    ));
                }
                Ok(token)
            });
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, path: &Path) -> Result<(), TokenError> {
        let failed = |reason: String| TokenError::Write {
            file: path.display().to_string(),
            reason,
        };
        let lines: Result<Vec<String>, _> = self.0.iter().map(serde_json::to_string).collect();
        let lines = lines.map_err(|error| failed(error.to_string()))?;
        output_file::write(path, &|out| {
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))
        })
        .map_err(|error| failed(error.to_string()))
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }

    /// Makes a token and gives its text, which is kept nowhere.
    ///
    /// # Errors
    /// If the name is none or has a token.
    pub fn create(
        &mut self,
        name: &str,
        role: Role,
        expires: Timestamp,
    ) -> Result<String, TokenError> {
        if !is_name(name) {
            return Err(TokenError::Name(name.to_owned()));
        }
        if self.0.iter().any(|token| token.name == name) {
            return Err(TokenError::Exists(name.to_owned()));
        }
        let mut secret = [0; SECRET_BYTES];
        let random = tls::provider().secure_random;
        random.fill(&mut secret).map_err(|_| TokenError::Random)?;
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{hex}");
        self.0.push(Token {
            name: name.to_owned(),
            role: role.to_string(),
            expires,
            digest: blake3::hash(text.as_bytes()).to_string(),
        });
        Ok(text)
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn revoke(&mut self, name: &str) -> Result<(), TokenError> {
        let before = self.0.len();
        self.0.retain(|token| token.name != name);
        if self.0.len() == before {
            return Err(TokenError::Unknown(name.to_owned()));
        }
        Ok(())
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// A reason for its bearer: unknown, or expired.
    pub(crate) fn identify(&self, text: &str, now: Timestamp) -> Result<Identity, String> {
        // `blake3::Hash` compares in constant time, and nothing about the secret shows in which token is found.
        let digest = blake3::hash(text.trim().as_bytes());
        let is_it = |token: &&Token| {
            blake3::Hash::from_hex(&token.digest).is_ok_and(|known| known == digest)
        };
        let token = self.0.iter().find(is_it);
        let token = token.ok_or("the token is unknown, or was revoked")?;
        if now > token.expires {
            return Err(format!(
                "the token `{}` expired at {}",
                token.name, token.expires
            ));
        }
        let role = token
            .role
            .parse::<Role>()
            .map_err(|error| error.to_string())?;
        Ok(Identity {
            name: token.name.clone(),
            roles: Roles::from_iter([role]),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_or_is_revoked_and_its_file_does_not_tell_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let end = Timestamp::from_second(2_000_000_000).unwrap();
        let mut tokens = Tokens::read(&path).unwrap();
        let text = tokens.create("ada", Role::Read, end).unwrap();
        assert!(matches!(
            tokens.create("ada", Role::Admin, end),
            Err(TokenError::Exists(_))
        ));
        assert!(matches!(
            tokens.create("a/b", Role::Read, end),
            Err(TokenError::Name(_))
        ));
        tokens.write(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = text.strip_prefix(PREFIX).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));

        let mut read = Tokens::read(&path).unwrap();
        let identity = read.identify(&format!("{text}\n"), end).unwrap();
        assert_eq!(
            (identity.name.as_str(), identity.roles.include(Role::Read)),
            ("ada", true)
        );
        assert!(!identity.roles.include(Role::Submit));
        let late = end + jiff::SignedDuration::from_secs(1);
        assert!(read.identify(&text, late).unwrap_err().contains("expired"));
        let wrong = text.replace(
            &secret[..1],
            if secret.starts_with('0') { "1" } else { "0" },
        );
        for unknown in ["", "unisono_", &wrong, &read.0[0].digest.clone()] {
            assert!(read.identify(unknown, end).is_err(), "{unknown}");
        }
        read.revoke("ada").unwrap();
        assert!(read.identify(&text, end).is_err());
        assert!(matches!(read.revoke("ada"), Err(TokenError::Unknown(_))));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Tokens::read(&path),
            Err(TokenError::File(TlsError::Exposed { .. }))
        ));
    }

    #[test]
    fn a_malformed_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "\n{\"name\":\"a\",\"role\":\"root\",\"expires\":\"2030-01-01T00:00:00Z\",\"digest\":\"00\"}\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let told = Tokens::read(&path).unwrap_err().to_string();
        assert!(
            told.contains("line 2") && told.contains("no role"),
            "{told}"
        );
    }
}
