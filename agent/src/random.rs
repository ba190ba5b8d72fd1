//! Random bytes, by the system call alone: no file in `/dev` has to be there.

use std::io;

use agent_core::grant::Epoch;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills the buffer.
///
/// # Errors
///
/// The kernel gives none.
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        filled += rustix::io::retry_on_intr(|| getrandom(&mut buffer[filled..], GetRandomFlags::empty()))?;
    }
    Ok(())
}

/// Eight random hex digits: the number of an ask, and a source of jitter.
pub fn dice() -> String {
    let mut bytes = [0; 4];
    // Without randomness the same number would be drawn twice, which whoever grants refuses; nothing breaks.
    let _ = fill(&mut bytes);
    hex(&bytes)
}

/// Sixteen random hex digits: an epoch of the Lease.
///
/// # Errors
///
/// The kernel gives no randomness. Two epochs that are equal would make an old grant valid again: none is drawn then.
pub fn epoch() -> io::Result<Epoch> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(hex(&bytes).parse().expect("sixteen lower-case hex digits are an epoch"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut one, mut other) = ([0; 64], [0; 64]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        assert_eq!(dice().len(), 8);
        assert_ne!(epoch().unwrap(), epoch().unwrap());
    }
}
