//! Options of the drivers: their names, what may stand in them, and which driver knows which.

use std::collections::BTreeMap;

use crate::error::NetError;
use crate::network::{Driver, GatewayMode};

pub(crate) const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";
pub(crate) const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const OPTION_GATEWAY_MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(crate) const OPTION_GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(crate) const OPTION_HOST_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const OPTION_INHIBIT_V4: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(crate) const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const OPTION_MTU: &str = "com.docker.network.driver.mtu";
pub(crate) const OPTION_PREFIX: &str = "com.docker.network.container_iface_prefix";
pub(crate) const OPTION_ENABLE_V4: &str = "com.docker.network.enable_ipv4";
pub(crate) const OPTION_ENABLE_V6: &str = "com.docker.network.enable_ipv6";
pub(crate) const OPTION_PARENT: &str = "parent";
pub(crate) const OPTION_MACVLAN_MODE: &str = "macvlan_mode";
pub(crate) const OPTION_IPVLAN_MODE: &str = "ipvlan_mode";
pub(crate) const OPTION_IPVLAN_FLAG: &str = "ipvlan_flag";

/// What may stand in an option.
#[derive(Clone, Copy)]
enum Domain {
    Text,
    Boolean,
    Mtu,
    Ipv4,
    GatewayMode,
    Interface,
    /// One of these words; the last text names the driver's own choice.
    Words(&'static str, &'static [&'static str]),
}

const COMMON: &[(&str, Domain)] = &[
    (OPTION_MTU, Domain::Mtu),
    (OPTION_PREFIX, Domain::Interface),
    (OPTION_ENABLE_V4, Domain::Boolean),
    (OPTION_ENABLE_V6, Domain::Boolean),
];
const OF_BRIDGE: &[(&str, Domain)] = &[
    (OPTION_BRIDGE, Domain::Text),
    (OPTION_DEFAULT, Domain::Boolean),
    (OPTION_GATEWAY_MODE_V4, Domain::GatewayMode),
    (OPTION_GATEWAY_MODE_V6, Domain::GatewayMode),
    (OPTION_HOST_ADDRESS, Domain::Ipv4),
    (OPTION_ICC, Domain::Boolean),
    (OPTION_INHIBIT_V4, Domain::Boolean),
    (OPTION_MASQUERADE, Domain::Boolean),
];
const OF_MACVLAN: &[(&str, Domain)] = &[
    (OPTION_PARENT, Domain::Text),
    (
        OPTION_MACVLAN_MODE,
        Domain::Words("'bridge' mode is the macvlan driver default", &["private", "vepa", "bridge", "passthru"]),
    ),
];
const OF_IPVLAN: &[(&str, Domain)] = &[
    (OPTION_PARENT, Domain::Text),
    (OPTION_IPVLAN_MODE, Domain::Words("'l2' mode is the ipvlan driver default", &["l2", "l3", "l3s"])),
    (OPTION_IPVLAN_FLAG, Domain::Words("'bridge' is the ipvlan driver default", &["bridge", "private", "vepa"])),
];

/// Checks the options of a new network. Gives the keys that its driver does not know; they are kept and have no effect.
///
/// # Errors
/// [`NetError::Option`] with the words that clients know.
pub(crate) fn check(driver: Driver, options: &BTreeMap<String, String>) -> Result<Vec<String>, NetError> {
    let own = match driver {
        Driver::Bridge => OF_BRIDGE,
        Driver::Macvlan => OF_MACVLAN,
        Driver::Ipvlan => OF_IPVLAN,
        Driver::Host | Driver::Null => &[],
    };
    let mut unknown = Vec::new();
    for (key, value) in options {
        match own.iter().chain(COMMON).find(|(name, _)| name == key) {
            Some((_, domain)) => domain.check(key, value).map_err(NetError::Option)?,
            None => unknown.push(key.clone()),
        }
    }
    Ok(unknown)
}

impl Domain {
    fn check(self, key: &str, value: &str) -> Result<(), String> {
        let wrong = |reason: String| Err(format!("failed to parse {key} value: {value} ({reason})"));
        match self {
            Domain::Text => Ok(()),
            Domain::Boolean if boolean(value).is_some() => Ok(()),
            Domain::Boolean => wrong(format!("strconv.ParseBool: parsing {value:?}: invalid syntax")),
            Domain::Mtu => match value.parse::<i64>() {
                Ok(mtu) if mtu < 0 || u32::try_from(mtu).is_err() => Err(format!("invalid MTU number: {mtu}")),
                Ok(_) => Ok(()),
                Err(_) => wrong(format!("strconv.Atoi: parsing {value:?}: invalid syntax")),
            },
            Domain::Ipv4 if value.parse::<std::net::Ipv4Addr>().is_ok() => Ok(()),
            Domain::Ipv4 => wrong("invalid IPv4 address".to_owned()),
            Domain::GatewayMode if GatewayMode::of_word(value).is_some() => Ok(()),
            Domain::GatewayMode => {
                wrong(format!("unknown gateway mode {value}: it is nat, nat-unprotected, routed or isolated"))
            }
            // Three digits must fit behind it.
            Domain::Interface if value.len() <= 12 && crate::endpoint::check_interface(value).is_ok() => Ok(()),
            Domain::Interface => wrong("it is 1 to 12 bytes, no slash, no white space".to_owned()),
            Domain::Words(_, words) if words.contains(&value) => Ok(()),
            Domain::Words(hint, _) => {
                Err(format!("requested {} '{value}' is not valid, {hint}", key.replace('_', " ")))
            }
        }
    }
}

/// Reads a boolean in all of Go's words for one: clients were written for them.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(driver: Driver, key: &str, value: &str) -> String {
        check(driver, &[(key.to_owned(), value.to_owned())].into()).unwrap_err().to_string()
    }

    #[test]
    fn wrong_values_are_refused_in_the_words_clients_know() {
        assert_eq!(
            refused(Driver::Bridge, OPTION_MTU, "x"),
            "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)"
        );
        assert_eq!(refused(Driver::Macvlan, OPTION_MTU, "-5"), "invalid MTU number: -5");
        assert!(refused(Driver::Bridge, OPTION_ICC, "maybe").contains("strconv.ParseBool: parsing \"maybe\""));
        assert!(refused(Driver::Bridge, OPTION_GATEWAY_MODE_V6, "open").contains("unknown gateway mode open"));
        assert_eq!(
            refused(Driver::Macvlan, OPTION_MACVLAN_MODE, "x"),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
        assert_eq!(
            refused(Driver::Ipvlan, OPTION_IPVLAN_MODE, "l4"),
            "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"
        );
    }

    #[test]
    fn options_of_other_drivers_are_kept_and_told() {
        let options = [("parent".to_owned(), "eth0".to_owned()), (OPTION_MTU.to_owned(), "1400".to_owned())].into();
        assert_eq!(check(Driver::Bridge, &options).unwrap(), ["parent"]);
        assert!(check(Driver::Ipvlan, &options).unwrap().is_empty());
    }
}
