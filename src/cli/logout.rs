//! `dbgate logout`: forgets the tokens, here and at the issuer.

use crate::cli::exit::Failure;
use crate::cli::workstation::Workstation;
use crate::client::login;

/// Signs out of the broker that `server` or the context names. Doing it twice is no error.
pub async fn run(server: Option<&str>) -> Result<(), Failure> {
    let desk = Workstation::open(server, None)?;
    let was_signed_in = login::logout(&desk.server, &desk.store).await?;
    let host = desk.server.host();
    if was_signed_in {
        println!("Signed out of {host}.");
    } else {
        println!("You were not signed in to {host}.");
    }
    Ok(())
}
