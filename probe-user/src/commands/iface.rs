// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe iface`.

use std::path::Path;

use super::print;
use crate::{
    cli::{IfaceAction, IfaceOptions},
    control::{Command, ControlClient, InterfaceInfo},
    error::ProbeError,
};

/// Shows or changes the set of interfaces of a running probe.
///
/// # Errors
/// When no probe answers, or it refuses; names before the one refused were done.
pub fn iface(options: &IfaceOptions) -> Result<(), ProbeError> {
    let socket = &options.socket.socket;
    match &options.action {
        IfaceAction::Add { names } => add(names, socket),
        IfaceAction::Remove { names } => remove(names, socket),
        IfaceAction::List { names, json } => list(names, *json, socket),
    }
}

fn add(names: &[String], socket: &Path) -> Result<(), ProbeError> {
    let mut client = ControlClient::connect(socket)?;
    for name in names {
        let added: InterfaceInfo = client.ask(&Command::IfaceAdd { name: name.clone() })?;
        let InterfaceInfo { name, index, role, engine, mode, .. } = added;
        let how: Vec<String> = [engine, mode].into_iter().flatten().collect();
        print(format!("{name} (index {index}) is metered: role {role}, {}\n", how.join(" ")).as_bytes())?;
    }
    Ok(())
}

fn remove(names: &[String], socket: &Path) -> Result<(), ProbeError> {
    let mut client = ControlClient::connect(socket)?;
    for name in names {
        client.ask::<()>(&Command::IfaceRemove { name: name.clone() })?;
        print(format!("{name} is no longer metered; its flows are exported\n").as_bytes())?;
    }
    Ok(())
}

fn list(names: &[String], json: bool, socket: &Path) -> Result<(), ProbeError> {
    let mut interfaces: Vec<InterfaceInfo> = ControlClient::connect(socket)?.ask(&Command::IfaceList)?;
    if let Some(name) = names.iter().find(|name| !interfaces.iter().any(|known| known.name == **name)) {
        return Err(ProbeError::host(format!("the probe does not meter {name}"))
            .hint("probe iface list shows what it meters; probe iface add changes that"));
    }
    interfaces.retain(|interface| names.is_empty() || names.contains(&interface.name));
    if !json {
        return print(table(&interfaces).as_bytes());
    }
    for interface in &interfaces {
        let line = serde_json::to_string(interface)
            .map_err(|error| ProbeError::run("cannot write an interface as JSON").because(error))?;
        print((line + "\n").as_bytes())?;
    }
    Ok(())
}

/// Columns as wide as what they hold; `-` is "none".
fn table(interfaces: &[InterfaceInfo]) -> String {
    let heading = ["NAME", "INDEX", "STATE", "ROLE", "ENGINE", "MODE", "BRIDGE"].map(str::to_owned);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let rows = interfaces.iter().map(|interface| {
        [
            interface.name.clone(),
            interface.index.to_string(),
            interface.state.name().into(),
            interface.role.clone(),
            or_dash(&interface.engine),
            or_dash(&interface.mode),
            or_dash(&interface.bridge),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let lines = rows.iter().map(|row| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::InterfaceState;

    #[test]
    fn the_table_has_a_line_for_each_interface() {
        let interface = InterfaceInfo {
            name: "eth1".into(),
            index: 3,
            state: InterfaceState::Up,
            role: "tap".into(),
            engine: Some("xdp".into()),
            mode: Some("native".into()),
            bridge: None,
        };
        let port = InterfaceInfo {
            name: "long-name".into(),
            index: 12,
            state: InterfaceState::Gone,
            role: "host".into(),
            engine: None,
            mode: None,
            bridge: Some("br0".into()),
        };
        assert_eq!(
            table(&[interface, port]),
            "NAME       INDEX  STATE  ROLE  ENGINE  MODE    BRIDGE\n\
             eth1       3      up     tap   xdp     native  -\n\
             long-name  12     gone   host  -       -       br0\n"
        );
    }
}
