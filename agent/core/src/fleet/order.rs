//! Who is next.

use std::time::Duration;

use super::{Fleet, Turns};
use crate::policy::Policy;

/// See [`super::next_turns`].
pub(crate) fn next_turns(fleet: &Fleet, _policy: &Policy, _now: Duration) -> Turns {
    Turns { revoke: None, lease: fleet.kept.clone(), writes: Vec::new(), gate: None, wake: None }
}
