//! Settings: from flags, environment and a YAML file to one checked [`Config`].
//!
//! A flag beats the environment, which beats the file, which beats the default. KubeArmor lets its
//! file beat the command line; here the more deliberate act wins.

mod file;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::builder::BoolishValueParser;
use karmor_policy::model::{Posture, Postures};

use self::file::FromFile;
pub use self::file::{parse, read_file};

/// Settings of KubeArmor that mean nothing here yet. They are accepted, with a notice, so that
/// existing unit files and manifests start.
pub const FUTURE_KEYS: &[&str] = &[
    "alertThrottling",
    "annotateResources",
    "coverageTest",
    "defaultPostureLogs",
    "dropResourceFromProcessLogs",
    "enableIMA",
    "enableKubeArmorStateAgent",
    "enableKubeArmorVm",
    "enableNRI",
    "enableNetworkPolicyEnforcer",
    "enableUSBDeviceHandler",
    "enforcerAlerts",
    "hostDefaultDevicePosture",
    "hostVisibility",
    "initTimeout",
    "matchArgs",
    "maxAlertPerSec",
    "nriIndex",
    "nriSocket",
    "procfsMount",
    "seLinuxProfileDir",
    "throttleSec",
    "tlsCertPath",
    "tlsCertProvider",
    "useOCIHooks",
    "visibility",
];

/// A default posture as users write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PostureSetting {
    /// Let it happen, with an alert
    Audit,
    /// Refuse it, with an alert
    Block,
    /// Let it happen, silently
    Allow,
}

/// From whom the daemon protects itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SelfProtection {
    /// From nobody
    Off,
    /// From processes in containers, whatever their privileges
    #[default]
    Containers,
    /// From processes of the host too, but for the first one and karmor's own
    Host,
}

/// What happens to an access that no rule matches, in containers and on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultPostures {
    /// Of containers.
    pub containers: Postures,
    /// Of the host.
    pub host: Postures,
}

impl From<PostureSetting> for Posture {
    fn from(setting: PostureSetting) -> Self {
        match setting {
            PostureSetting::Audit => Self::Audit,
            PostureSetting::Block => Self::Block,
            PostureSetting::Allow => Self::Allow,
        }
    }
}

/// Where alerts go besides gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPath {
    /// Nowhere.
    None,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl FromStr for LogPath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "none" => Self::None,
            "stdout" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

macro_rules! settings {
    ($($(#[$meta:meta])* $key:literal $field:ident: $type:ty;)*) => {
        /// Every setting, as given or not. The same names in all three places.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Settings {
            $(
                $(#[$meta])*
                #[arg(long = $key)]
                pub $field: Option<$type>,
            )*
        }

        /// Names of all settings that mean something.
        pub const KEYS: &[&str] = &[$($key),*];

        impl Settings {
            /// These settings, and where they are silent, those of `lower`.
            #[must_use]
            pub fn over(self, lower: Self) -> Self {
                Self { $($field: self.$field.or(lower.$field),)* }
            }

            /// Names of the settings that say something else than the other's.
            #[must_use]
            pub fn differing(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field != other.$field {
                    names.push($key);
                })*
                names
            }

            /// Sets what has a value in a file; says what is allowed if it is not that.
            fn set(&mut self, key: &str, value: &serde_json::Value) -> Result<(), &'static str> {
                match key {
                    $($key => {
                        let value = <$type>::from_file(value).ok_or(<$type>::ALLOWED)?;
                        self.$field = Some(value);
                    })*
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

settings! {
    /// Name of the cluster, for alerts [default: default]
    #[arg(env = "CLUSTER", value_name = "NAME")]
    "cluster" cluster: String;
    /// Name of this host, for alerts and host policies [default: the host's name]
    #[arg(env = "KUBEARMOR_NODENAME", value_name = "NAME")]
    "host" host: String;
    /// Port of the alert feed on the loopback address; 0 picks one [default: 32767]
    #[arg(env = "GRPC", value_name = "PORT")]
    "gRPC" grpc: u16;
    /// Port of the gRPC health service on the loopback address; 0 picks one [default: 32766]
    #[arg(env = "GRPCHEALTHPORT", value_name = "PORT")]
    "gRPCHealthPort" grpc_health_port: u16;
    /// Serve TCP with mutual TLS (not available in this version)
    #[arg(env = "TLSENABLED", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "tlsEnabled" tls_enabled: bool;
    /// Where alerts go besides gRPC: none, stdout or a file [default: none]
    #[arg(env = "LOGPATH", value_name = "PATH")]
    "logPath" log_path: String;
    /// Socket of the container runtime, such as unix:///run/containerd/containerd.sock
    /// [default: the first usual place that exists]
    #[arg(env = "CRI_SOCKET", value_name = "URL")]
    "criSocket" cri_socket: String;
    /// Take policies for containers [default: true]
    #[arg(env = "ENABLEKUBEARMORPOLICY", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "enableKubeArmorPolicy" enable_policy: bool;
    /// Take policies for this host [default: false]
    #[arg(env = "ENABLEKUBEARMORHOSTPOLICY", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "enableKubeArmorHostPolicy" enable_host_policy: bool;
    /// What happens in a container to a file access that no rule matches, where Allow rules make a
    /// whitelist [default: audit]
    #[arg(env = "DEFAULTFILEPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "defaultFilePosture" default_file_posture: PostureSetting;
    /// The same, for processes of the host [default: audit]
    #[arg(env = "HOSTDEFAULTFILEPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "hostDefaultFilePosture" host_default_file_posture: PostureSetting;
    /// The same, for a network access in a container [default: audit]
    #[arg(env = "DEFAULTNETWORKPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "defaultNetworkPosture" default_network_posture: PostureSetting;
    /// The same, for a network access of the host [default: audit]
    #[arg(env = "HOSTDEFAULTNETWORKPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "hostDefaultNetworkPosture" host_default_network_posture: PostureSetting;
    /// The same, for the use of a capability in a container [default: audit]
    #[arg(env = "DEFAULTCAPABILITIESPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "defaultCapabilitiesPosture" default_capabilities_posture: PostureSetting;
    /// The same, for the use of a capability on the host [default: audit]
    #[arg(env = "HOSTDEFAULTCAPABILITIESPOSTURE", value_name = "POSTURE", ignore_case = true)]
    "hostDefaultCapabilitiesPosture" host_default_capabilities_posture: PostureSetting;
    /// Namespaces whose containers are left alone, separated by commas
    /// [default: kube-system,kubearmor]
    #[arg(env = "UNTRACKEDNS", value_name = "NAMES")]
    "untrackedNs" untracked_ns: String;
    /// Enforcers to use, in order of preference, separated by commas; this version has bpf, and
    /// none stands for --observe [default: bpf]
    #[arg(env = "LSM", value_name = "NAMES")]
    "lsm" lsm: String;
    /// The BPF filesystem, where what is enforced is pinned [default: /sys/fs/bpf]
    #[arg(env = "BPFFSPATH", value_name = "DIR")]
    "bpfFsPath" bpf_fs_path: PathBuf;
    /// File with this machine's id, for alerts [default: /etc/machine-id]
    #[arg(env = "MACHINEIDPATH", value_name = "FILE")]
    "machineIDPath" machine_id_path: PathBuf;
    /// Take pods and policies from Kubernetes (not available in this version)
    #[arg(env = "K8S", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "k8s" k8s: bool;
    /// Log in more detail
    #[arg(env = "DEBUG", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "debug" debug: bool;
    /// Directory of policy files, watched; its own .yaml, .yml and .json files, in lower case, and
    /// not those of directories in it [default: /etc/karmor/policies]
    #[arg(env = "KARMOR_POLICY_DIR", value_name = "DIR")]
    "policy-dir" policy_dir: PathBuf;
    /// Directory for what must survive a restart [default: /var/lib/karmor]
    #[arg(env = "KARMOR_STATE_DIR", value_name = "DIR")]
    "state-dir" state_dir: PathBuf;
    /// Unix socket for policies and alerts, for root [default: /run/karmor/karmor.sock]
    #[arg(env = "KARMOR_SOCKET", value_name = "PATH")]
    "socket" socket: PathBuf;
    /// From whom the daemon, its programs, maps, sockets and files are protected; to take host back,
    /// see docs/self-protection.md [default: containers]
    #[arg(env = "KARMOR_SELF_PROTECTION", value_name = "WHOM", ignore_case = true)]
    "self-protection" self_protection: SelfProtection;
    /// Start even though nothing can or shall be enforced; every status says so
    #[arg(env = "KARMOR_OBSERVE", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = BoolishValueParser::new())]
    "observe" observe: bool;
}

impl Settings {
    fn postures(&self) -> DefaultPostures {
        let of =
            |setting: Option<PostureSetting>| setting.map_or_else(Posture::default, Into::into);
        DefaultPostures {
            containers: Postures {
                file: of(self.default_file_posture),
                network: of(self.default_network_posture),
                capabilities: of(self.default_capabilities_posture),
            },
            host: Postures {
                file: of(self.host_default_file_posture),
                network: of(self.host_default_network_posture),
                capabilities: of(self.host_default_capabilities_posture),
            },
        }
    }
}

/// Where settings are from, for those that are read again while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Settings that were given: they count above those of the file.
    pub given: Settings,
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// What it said.
    pub read: Settings,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the host.
    pub host: String,
    /// Identity of the machine; the host's name where it has none.
    pub node_id: String,
    /// Port of the feed.
    pub grpc: u16,
    /// Port of the health service.
    pub grpc_health_port: u16,
    /// Extra output of alerts.
    pub log_path: LogPath,
    /// Socket of the runtime, when told.
    pub cri_socket: Option<PathBuf>,
    /// Container policies are taken.
    pub enable_policy: bool,
    /// Host policies are taken.
    pub enable_host_policy: bool,
    /// Default postures.
    pub postures: DefaultPostures,
    /// Namespaces that are left alone.
    pub untracked_ns: Vec<String>,
    /// The BPF filesystem.
    pub bpf_fs_path: PathBuf,
    /// Log in detail.
    pub debug: bool,
    /// Watched directory.
    pub policy_dir: PathBuf,
    /// State directory.
    pub state_dir: PathBuf,
    /// Unix socket.
    pub socket: PathBuf,
    /// From whom the daemon protects itself.
    pub self_protection: SelfProtection,
    /// Enforcing nothing is accepted; why, as a sentence fragment.
    pub observe: Option<String>,
    /// Where all of this is from.
    pub origin: Origin,
}

/// Why settings are not acceptable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the settings file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML, or a value has the wrong type.
    #[error("{place}: {message}")]
    Parse {
        /// File, line and column.
        place: String,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// The file has a name nobody knows.
    #[error("{place}: there is no setting `{key}`{hint}")]
    Unknown {
        /// File, line and column.
        place: String,
        /// The name.
        key: String,
        /// A suggestion, or nothing.
        hint: Hint,
    },
    /// A value that cannot be used.
    #[error("{key}: {message}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// A suggested name.
#[derive(Debug, Default)]
pub struct Hint(Option<String>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Checks settings and fills in defaults.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        let postures = settings.postures();
        let host = settings
            .host
            .filter(|host| !host.is_empty())
            .unwrap_or_else(host_name);
        let node_id =
            machine_id(settings.machine_id_path.as_deref()).unwrap_or_else(|| host.clone());
        let observe = observe(settings.observe.unwrap_or(false), settings.lsm.as_deref())?;
        if settings.tls_enabled == Some(true) {
            return Err(ConfigError::Value {
                key: "tlsEnabled",
                message: "TLS is not available in this version; leave it out, and the TCP ports \
                          stay on the loopback address and read-only"
                    .into(),
            });
        }
        if settings.k8s == Some(true) {
            return Err(ConfigError::Value {
                key: "k8s",
                message: "Kubernetes is not available in this version; set it to false to follow \
                          the containers of this machine"
                    .into(),
            });
        }
        Ok(Self {
            cluster: settings.cluster.unwrap_or_else(|| "default".into()),
            node_id,
            host,
            grpc: settings.grpc.unwrap_or(32767),
            grpc_health_port: settings.grpc_health_port.unwrap_or(32766),
            log_path: settings
                .log_path
                .as_deref()
                .unwrap_or("none")
                .parse()
                .unwrap_or(LogPath::None),
            cri_socket: settings
                .cri_socket
                .as_deref()
                .map(socket_path)
                .transpose()?
                .flatten(),
            enable_policy: settings.enable_policy.unwrap_or(true),
            enable_host_policy: settings.enable_host_policy.unwrap_or(false),
            postures,
            untracked_ns: list(
                settings
                    .untracked_ns
                    .as_deref()
                    .unwrap_or("kube-system,kubearmor"),
            ),
            bpf_fs_path: settings.bpf_fs_path.unwrap_or_else(|| "/sys/fs/bpf".into()),
            debug: settings.debug.unwrap_or(false),
            policy_dir: settings
                .policy_dir
                .unwrap_or_else(|| "/etc/karmor/policies".into()),
            state_dir: settings
                .state_dir
                .unwrap_or_else(|| "/var/lib/karmor".into()),
            socket: settings
                .socket
                .unwrap_or_else(|| karmor_proto::SOCKET.into()),
            self_protection: settings.self_protection.unwrap_or_default(),
            observe,
            origin: Origin::default(),
        })
    }
}

fn observe(flag: bool, lsm: Option<&str>) -> Result<Option<String>, ConfigError> {
    if flag {
        return Ok(Some("--observe was given".into()));
    }
    let Some(lsm) = lsm else { return Ok(None) };
    let names = list(lsm);
    if let Some(unknown) = names
        .iter()
        .find(|n| !matches!(n.as_str(), "bpf" | "apparmor" | "selinux" | "none"))
    {
        let message = format!("there is no enforcer `{unknown}`; allowed are bpf and none");
        return Err(ConfigError::Value {
            key: "lsm",
            message,
        });
    }
    match names.first().map(String::as_str) {
        None | Some("none") => Ok(Some("lsm is set to none".into())),
        _ if names.iter().any(|n| n == "bpf") => Ok(None),
        _ => Err(ConfigError::Value {
            key: "lsm",
            message: format!(
                "`{lsm}` names no enforcer this version has; allowed are bpf and none"
            ),
        }),
    }
}

fn socket_path(url: &str) -> Result<Option<PathBuf>, ConfigError> {
    match url.strip_prefix("unix://") {
        _ if url.is_empty() => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(path.into())),
        _ => Err(ConfigError::Value {
            key: "criSocket",
            message: format!("`{url}` is not of the form unix:///run/containerd/containerd.sock"),
        }),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn machine_id(path: Option<&Path>) -> Option<String> {
    let usual = ["/etc/machine-id", "/var/lib/dbus/machine-id"].map(Path::new);
    path.into_iter()
        .chain(usual)
        .filter_map(|p| std::fs::read_to_string(p).ok())
        .map(|id| id.trim().to_owned())
        .find(|id| {
            !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests;
