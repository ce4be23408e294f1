//! Settings from a YAML file: one mapping, with the names of the flags.

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;
use karmor_policy::encoding;
use serde_json::Value;
use serde_saphyr::{Error, Location, Spanned};

use super::{ConfigError, FUTURE_KEYS, Hint, KEYS, PostureSetting, SelfProtection, Settings};
use crate::{args::notice, text};

/// Reads a settings file. Also returns notices about names that mean nothing yet.
///
/// # Errors
/// When the file cannot be read or says something that cannot be meant.
pub fn read_file(path: &std::path::Path) -> Result<(Settings, Vec<String>), ConfigError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: name.clone(),
        source,
    })?;
    parse(&bytes, &name)
}

/// Reads the bytes of a settings file of the name.
///
/// # Errors
/// When they say something that cannot be meant.
pub fn parse(bytes: &[u8], name: &str) -> Result<(Settings, Vec<String>), ConfigError> {
    let text = encoding::decode(bytes).map_err(|error| ConfigError::Parse {
        place: name.to_owned(),
        message: format!("{error}; {}", error.help()),
    })?;
    parse_file(text, name)
}

pub(super) fn parse_file(text: &str, path: &str) -> Result<(Settings, Vec<String>), ConfigError> {
    if text
        .lines()
        .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
    {
        return Ok((Settings::default(), Vec::new()));
    }
    let place = |location: Location| format!("{path}:{}:{}", location.line(), location.column());
    let map: BTreeMap<String, Spanned<Value>> =
        serde_saphyr::from_str(text).map_err(|error| ConfigError::Parse {
            place: error.location().map_or_else(|| path.to_owned(), place),
            message: not_settings(&error),
        })?;
    let mut settings = Settings::default();
    let mut notices = Vec::new();
    for (key, spanned) in map {
        let place = place(spanned.referenced);
        if FUTURE_KEYS.contains(&key.as_str()) {
            notices.push(notice(&format!("{place}: {key}")));
        } else if !KEYS.contains(&key.as_str()) {
            let hint = nearest(&key, KEYS.iter().chain(FUTURE_KEYS).copied());
            return Err(ConfigError::Unknown {
                place,
                key: text::name(&key),
                hint: Hint(hint.map(str::to_owned)),
            });
        }
        let value = match spanned.value {
            Value::Null => continue,
            Value::Array(items) if matches!(key.as_str(), "untrackedNs" | "lsm") => joined(items),
            value => value,
        };
        settings
            .set(&key, &value)
            .map_err(|allowed| ConfigError::Parse {
                place,
                message: format!(
                    "{key} cannot be {}; allowed is {allowed}",
                    text::name(&value.to_string())
                ),
            })?;
    }
    Ok((settings, notices))
}

/// What is wrong with a text that is no mapping.
fn not_settings(error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("{} is set twice", text::name(key))
        }
        Error::MultipleDocuments { .. } => {
            "another document starts here; settings are in one".into()
        }
        _ => "this cannot be read as settings in YAML, which are lines of the form `name: value`"
            .into(),
    }
}

/// A list of names as the flags have it. Anything else in it is left to be refused.
fn joined(items: Vec<Value>) -> Value {
    let names: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    match names {
        Some(names) => names.join(",").into(),
        None => Value::Array(items),
    }
}

/// How a value in a file becomes a setting.
pub(super) trait FromFile: Sized {
    /// What may be written.
    const ALLOWED: &'static str;

    fn from_file(value: &Value) -> Option<Self>;
}

impl FromFile for String {
    const ALLOWED: &'static str = "text";

    /// Names that look like numbers are often without quotes.
    fn from_file(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl FromFile for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn from_file(value: &Value) -> Option<Self> {
        value.as_str().map(Into::into)
    }
}

impl FromFile for bool {
    const ALLOWED: &'static str = "true or false";

    fn from_file(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromFile for u16 {
    const ALLOWED: &'static str = "a port, from 0 to 65535";

    /// Ports are often in quotes.
    fn from_file(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64()?.try_into().ok(),
        }
    }
}

impl FromFile for PostureSetting {
    const ALLOWED: &'static str = "audit, block or allow";

    fn from_file(value: &Value) -> Option<Self> {
        let ignore_case = true;
        Self::from_str(value.as_str()?, ignore_case).ok()
    }
}

impl FromFile for SelfProtection {
    const ALLOWED: &'static str = "off, containers or host";

    fn from_file(value: &Value) -> Option<Self> {
        // YAML takes `off` for a word of its own in some versions.
        if value.as_bool() == Some(false) {
            return Some(Self::Off);
        }
        let ignore_case = true;
        Self::from_str(value.as_str()?, ignore_case).ok()
    }
}

/// The name closest to a mistyped one, when it is close.
fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| {
            (
                strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= key.len() / 3 + 1)
        .min()
        .map(|(_, name)| name)
}
