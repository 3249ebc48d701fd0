//! PROXY protocol, version 2: how a load balancer says who is behind it.
//!
//! Read only from addresses that the operator trusts, and there it must be present: a peer that
//! could leave it out could also choose who it seems to be.

use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and the length of the rest.
pub const HEAD: usize = 16;
/// More than addresses and the usual extensions need.
const LONGEST: u16 = 2048;

/// The fixed part of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    is_proxied: bool,
    family: u8,
    /// Bytes that follow.
    pub length: u16,
}

/// Not a PROXY header of version 2, or not one of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PROXY protocol header of version 2")]
pub struct NoProxyHeader;

/// Reads the fixed part.
pub fn head(bytes: &[u8; HEAD]) -> Result<Head, NoProxyHeader> {
    let (signature, rest) = bytes.split_first_chunk::<12>().ok_or(NoProxyHeader)?;
    let [command, family, high, low] = rest else { return Err(NoProxyHeader) };
    let length = u16::from_be_bytes([*high, *low]);
    if *signature != SIGNATURE || length > LONGEST {
        return Err(NoProxyHeader);
    }
    let is_proxied = match command {
        // LOCAL: the balancer itself, as for a health check.
        0x20 => false,
        0x21 => true,
        _ => return Err(NoProxyHeader),
    };
    Ok(Head { is_proxied, family: *family, length })
}

/// Reads the rest: who is behind the balancer; `None` when it speaks for itself.
pub fn source(head: Head, rest: &[u8]) -> Result<Option<SocketAddr>, NoProxyHeader> {
    if !head.is_proxied {
        return Ok(None);
    }
    let port = |at: usize| {
        let bytes = rest.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        bytes.map(u16::from_be_bytes).ok_or(NoProxyHeader)
    };
    match head.family {
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let address = rest.first_chunk::<4>().ok_or(NoProxyHeader)?;
            Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*address)), port(8)?)))
        }
        0x21 => {
            let address = rest.first_chunk::<16>().ok_or(NoProxyHeader)?;
            Ok(Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)), port(32)?)))
        }
        _ => Err(NoProxyHeader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> ([u8; HEAD], Vec<u8>) {
        let mut bytes = [0; HEAD];
        bytes[..12].copy_from_slice(&SIGNATURE);
        bytes[12..14].copy_from_slice(&[command, family]);
        bytes[14..].copy_from_slice(&u16::try_from(rest.len()).expect("short").to_be_bytes());
        (bytes, rest.to_vec())
    }

    fn read(header: &([u8; HEAD], Vec<u8>)) -> Result<Option<SocketAddr>, NoProxyHeader> {
        source(head(&header.0)?, &header.1)
    }

    #[test]
    fn the_client_behind_the_balancer_is_read() {
        let four = header(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x15, 0x38]);
        assert_eq!(read(&four), Ok(Some("192.0.2.7:12345".parse().expect("address"))));
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[33]) = (0x20, 0x01, 9, 80);
        assert_eq!(read(&header(0x21, 0x21, &six)), Ok(Some("[2001::9]:80".parse().expect("address"))));
        assert_eq!(read(&header(0x20, 0, &[])), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = header(0x21, 0x11, &[0; 12]);
        for (at, byte) in [(0, b'G'), (12, 0x11), (12, 0x22), (13, 0x12), (14, 0xff)] {
            let mut bad = good.clone();
            bad.0[at] = byte;
            assert_eq!(read(&bad), Err(NoProxyHeader), "{at}");
        }
        assert_eq!(read(&header(0x21, 0x11, &[0; 9])), Err(NoProxyHeader));
        assert_eq!(read(&header(0x21, 0x21, &[0; 33])), Err(NoProxyHeader));
    }
}
