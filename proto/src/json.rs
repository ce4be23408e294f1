//! The JSON form of the messages, as far as serde's derive does not give it.

use crate::karmor::v1::{Enforcement, Outcome, Verdict};

/// Whether a number is zero and so, as in KubeArmor's JSON, left out.
pub(crate) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// An enumeration travels as a number; in JSON it is its name.
macro_rules! by_name {
    ($module:ident, $type:ty) => {
        pub(crate) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(crate) fn serialize<S: Serializer>(
                number: &i32,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                // A number from a newer daemon has no name here.
                <$type>::try_from(*number)
                    .unwrap_or_default()
                    .serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<i32, D::Error> {
                <$type>::deserialize(deserializer).map(i32::from)
            }

            use super::*;
        }
    };
}

by_name!(outcome, Outcome);
by_name!(enforcement, Enforcement);
by_name!(verdict, Verdict);
