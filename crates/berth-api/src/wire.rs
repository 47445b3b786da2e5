//! How Go's JSON habits are written down once: the `wire!` struct macro and the two odd value types.

use serde::de::{Deserializer, IgnoredAny};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Declares wire structs: PascalCase keys unless another case is named first, both directions, and for every field `null` or absence means the default.
///
/// A document that stands inside another without a key of its own comes last, after a semicolon: `; flatten NAME: TYPE,`.
macro_rules! wire {
    ($case:literal; $( $(#[$meta:meta])* pub struct $name:ident {
        $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty ),* $(,)?
        $(; $(#[$flat_meta:meta])* flatten $flat:ident : $flat_ty:ty ,)?
    } )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = $case)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::wire::null_is_default")]
                pub $field: $ty,
            )*
            $(
                $(#[$flat_meta])*
                #[serde(flatten)]
                pub $flat: $flat_ty,
            )?
        }
    )* };
    ($($structs:tt)*) => { crate::wire::wire! { "PascalCase"; $($structs)* } };
}
pub(crate) use wire;

/// Reads a value, taking `null` for its default, as Go's decoder leaves a field alone on `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a value is the one that `omitempty` leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The value of a set written as a map: always `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Empty;

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Empty)
    }
}

/// Height and width of a terminal in characters, `[height, width]` on the wire; a shorter list is filled with zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConsoleSize(pub [u32; 2]);

impl<'de> Deserialize<'de> for ConsoleSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Vec::<u32>::deserialize(deserializer)?;
        let at = |index: usize| given.get(index).copied().unwrap_or_default();
        Ok(ConsoleSize([at(0), at(1)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::container::UpdateRequest;
    use crate::container_config::CreateRequest;

    #[test]
    fn a_wrong_field_is_refused_wherever_it_stands() {
        for text in [r#"{"Cmd":"echo hi"}"#, r#"{"Image":5}"#, r#"{"HostConfig":{"Memory":"x"}}"#, "[]"] {
            assert!(serde_json::from_str::<CreateRequest>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<UpdateRequest>(r#"{"Memory":"x"}"#).is_err());
    }

    #[test]
    fn null_and_absence_mean_the_default() {
        let text =
            r#"{"Image":null,"Cmd":null,"HostConfig":{"Binds":null,"Memory":null,"LogConfig":null},"Unknown":1}"#;
        let request: CreateRequest = serde_json::from_str(text).expect("valid");
        assert_eq!(request.config, CreateRequest::default().config);
        assert_eq!(request.host_config, Some(crate::host_config::HostConfig::default()));
    }
}
