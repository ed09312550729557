// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steering where there is no socket: everything is metered as without. (A redirect to nothing would be a lost packet.)

use probe_common::{InterfaceEntry, KernelSettings};
use probe_lab::{require_root, vectors};
use probe_user::net::Role;

use super::kernel::{Hook, Kernel, LOOPBACK};

#[test]
#[ignore = "needs root: run `make test`"]
fn without_a_socket_everything_is_metered() {
    require_root();
    let frames: Vec<Vec<u8>> = vectors::all().unwrap().into_iter().map(|vector| vector.frame).collect();
    for steer in [KernelSettings::STEER_DEEP, KernelSettings::STEER_ALL] {
        for hook in [Hook::Xdp(Role::Tap), Hook::Xdp(Role::Host), Hook::XdpFrags(Role::Tap)] {
            // The interface has no entry, none for this queue, or a place for its socket where none is.
            for sockets in [None, Some(0), Some(4)] {
                let mut kernel = Kernel::load_hook(hook, |options| {
                    options.sizing = options.sizing.with_details(true);
                    (options.steer, options.sockets) = (steer, 4);
                });
                if let Some(sockets) = sockets {
                    let entry = InterfaceEntry { sockets, ingress: 1, ..InterfaceEntry::default() };
                    kernel.program.set_interface(LOOPBACK, entry).unwrap();
                }
                kernel.check(&frames);
            }
        }
    }
}
