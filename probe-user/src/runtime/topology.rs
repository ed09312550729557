// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the host says of its CPUs, and which of them serve the NICs.
//!
//! A receive queue is served by the CPU that takes its interrupt: NAPI, and XDP with it, run in softirq there. Files read,
//! below `/sys` and `/proc`:
//!
//! ```text
//! sys/devices/system/node/node*/cpulist      the CPUs of a NUMA node
//! sys/class/net/IF/device/numa_node          the node of a NIC; -1 where there is but one
//! sys/class/net/IF/device/msi_irqs/N         its interrupts (of virtio-net one directory above), or device/irq
//! sys/class/net/IF/lower_*                   what a bond, VLAN or bridge lies on
//! proc/irq/N/effective_affinity_list         the CPUs that an interrupt goes to (else smp_affinity_list)
//! ```
//!
//! What is missing is not known, and no error: virtual devices have none of these.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Devices below devices: a bridge over a VLAN over a bond over a NIC.
const MAX_DEPTH: usize = 4;
/// More CPUs than any kernel is built for.
const MAX_CPUS: usize = 1 << 13;

/// A NIC below a metered interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Nic {
    /// Its name.
    pub name: String,
    /// Its NUMA node, if the host has several.
    pub node: Option<usize>,
    /// CPUs that take its interrupts, in order; none where that is not known.
    pub cpus: Vec<usize>,
}

/// CPUs and NICs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Topology {
    /// CPUs that the process may use, in order.
    pub allowed: Vec<usize>,
    /// The CPUs of each NUMA node, by its number; none where the kernel knows no nodes.
    pub nodes: Vec<(usize, Vec<usize>)>,
    /// NICs below the metered interfaces.
    pub nics: Vec<Nic>,
}

impl Topology {
    /// Reads it below `root`, which is `/` but for tests.
    #[must_use]
    pub(super) fn read(root: &Path, mut allowed: Vec<usize>, interfaces: &[String]) -> Self {
        let tree = Tree(root);
        allowed.sort_unstable();
        let mut names = BTreeSet::new();
        interfaces.iter().for_each(|name| tree.add_lowest(name, 0, &mut names));
        Self { allowed, nodes: tree.nodes(), nics: names.into_iter().map(|name| tree.nic(name)).collect() }
    }

    /// The NUMA node of a CPU.
    #[must_use]
    pub(super) fn node_of(&self, cpu: usize) -> Option<usize> {
        self.nodes.iter().find(|(_, cpus)| cpus.contains(&cpu)).map(|(node, _)| *node)
    }

    /// The NIC one of whose queues the CPU serves.
    #[must_use]
    pub(super) fn served_by(&self, cpu: usize) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.cpus.contains(&cpu))
    }
}

struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn device(&self, interface: &str) -> PathBuf {
        // A name with a slash in it would lead elsewhere; the kernel has none.
        self.0.join("sys/class/net").join(interface.replace('/', "!"))
    }

    /// The devices that `name` lies on, or itself.
    fn add_lowest(&self, name: &str, depth: usize, out: &mut BTreeSet<String>) {
        let lower: Vec<String> = names_in(&self.device(name))
            .filter_map(|entry| entry.strip_prefix("lower_").map(str::to_owned))
            .collect();
        if lower.is_empty() || depth == MAX_DEPTH {
            out.insert(name.to_owned());
        } else {
            lower.iter().for_each(|name| self.add_lowest(name, depth + 1, out));
        }
    }

    fn nodes(&self) -> Vec<(usize, Vec<usize>)> {
        let path = self.0.join("sys/devices/system/node");
        let mut nodes: Vec<_> = names_in(&path)
            .filter_map(|name| {
                let node = name.strip_prefix("node")?.parse().ok()?;
                Some((node, cpu_list(&text(&path.join(&name).join("cpulist"))?)))
            })
            .collect();
        nodes.sort_unstable();
        nodes
    }

    fn nic(&self, name: String) -> Nic {
        let device = self.device(&name).join("device");
        let node = text(&device.join("numa_node")).and_then(|node| node.parse().ok());
        let mut cpus: Vec<usize> =
            interrupts(&device).into_iter().flat_map(|interrupt| self.cpus_of(interrupt)).collect();
        cpus.sort_unstable();
        cpus.dedup();
        Nic { name, node, cpus }
    }

    /// Where an interrupt goes to: for most controllers one CPU of those that it may.
    fn cpus_of(&self, interrupt: u32) -> Vec<usize> {
        let path = self.0.join("proc/irq").join(interrupt.to_string());
        let list = |name| text(&path.join(name)).map(|list| cpu_list(&list)).filter(|list| !list.is_empty());
        list("effective_affinity_list").or_else(|| list("smp_affinity_list")).unwrap_or_default()
    }
}

fn interrupts(device: &Path) -> Vec<u32> {
    let numbers = |path: &Path| names_in(path).filter_map(|name| name.parse().ok()).collect::<Vec<u32>>();
    let own = numbers(&device.join("msi_irqs"));
    if !own.is_empty() {
        return own;
    }
    let bus = fs::read_link(device.join("subsystem")).unwrap_or_default();
    if bus.file_name().is_some_and(|name| name == "virtio") {
        // The virtio device lies below the PCI device that has the interrupts.
        return numbers(&device.join("../msi_irqs"));
    }
    // 0 is no interrupt of a PCI device.
    text(&device.join("irq")).and_then(|irq| irq.parse().ok()).filter(|irq| *irq != 0).into_iter().collect()
}

/// A file without the blanks around its content; `None` if it cannot be read.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn names_in(path: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The kernel's lists: `0-3,8`.
fn cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (last < MAX_CPUS).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Two nodes; eth0 on the second with three interrupts, virtio eth1, bond0 over eth0, a VLAN over that, veth0.
    fn host(root: &Path) {
        write(root, "sys/devices/system/node/node0/cpulist", "0-3,8\n");
        write(root, "sys/devices/system/node/node1/cpulist", "4-7\n");
        write(root, "sys/devices/system/node/online", "0-1\n");
        write(root, "sys/class/net/eth0/device/numa_node", "1\n");
        for (interrupt, file, cpus) in [
            (40, "effective_affinity_list", "4"),
            (41, "effective_affinity_list", "5\n"),
            (42, "effective_affinity_list", ""),
            (42, "smp_affinity_list", "4,6"),
            (50, "effective_affinity_list", "0"),
            (51, "effective_affinity_list", "1"),
        ] {
            write(root, &format!("proc/irq/{interrupt}/{file}"), cpus);
        }
        for interrupt in 40..43 {
            write(root, &format!("sys/class/net/eth0/device/msi_irqs/{interrupt}"), "msix\n");
        }
        write(root, "sys/devices/pci0/virtio3/numa_node", "-1\n");
        write(root, "sys/devices/pci0/msi_irqs/50", "msix\n");
        write(root, "sys/bus/virtio/uevent", "");
        symlink(root.join("sys/bus/virtio"), root.join("sys/devices/pci0/virtio3/subsystem")).unwrap();
        fs::create_dir_all(root.join("sys/class/net/eth1")).unwrap();
        symlink(root.join("sys/devices/pci0/virtio3"), root.join("sys/class/net/eth1/device")).unwrap();
        write(root, "sys/class/net/eth2/device/irq", "51\n");
        write(root, "sys/class/net/eth3/device/irq", "0\n");
        write(root, "sys/class/net/bond0/lower_eth0/ifindex", "2\n");
        write(root, "sys/class/net/bond0.7/lower_bond0/ifindex", "9\n");
        write(root, "sys/class/net/veth0/ifindex", "10\n");
    }

    fn nics(root: &Path, interfaces: &[&str]) -> Vec<Nic> {
        let names: Vec<String> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        Topology::read(root, Vec::new(), &names).nics
    }

    #[test]
    fn the_kernel_says_which_cpus_serve_a_nic_and_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        host(directory.path());
        let eth0 = Nic { name: "eth0".into(), node: Some(1), cpus: vec![4, 5, 6] };
        let unknown = |name: &str| Nic { name: name.into(), node: None, cpus: Vec::new() };
        for (interface, nic) in [
            ("eth0", eth0.clone()),
            ("bond0.7", eth0.clone()),
            ("eth1", Nic { cpus: vec![0], ..unknown("eth1") }),
            ("eth2", Nic { cpus: vec![1], ..unknown("eth2") }),
            ("eth3", unknown("eth3")),
            ("veth0", unknown("veth0")),
            ("gone", unknown("gone")),
        ] {
            assert_eq!(nics(directory.path(), &[interface]), [nic], "{interface}");
        }
        assert_eq!(nics(directory.path(), &["bond0", "eth0"]), [eth0], "each once");
        let topology = Topology::read(directory.path(), vec![4, 0, 8], &["eth0".into()]);
        assert_eq!(topology.allowed, [0, 4, 8]);
        assert_eq!([0, 8, 5, 9].map(|cpu| topology.node_of(cpu)), [Some(0), Some(0), Some(1), None]);
        assert_eq!(topology.served_by(6).map(|nic| nic.name.as_str()), Some("eth0"));
        assert_eq!(topology.served_by(7), None);
    }

    #[test]
    fn a_loop_of_devices_ends() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "sys/class/net/a/lower_b/x", "");
        write(directory.path(), "sys/class/net/b/lower_a/x", "");
        assert_eq!(nics(directory.path(), &["a"]).len(), 1);
    }

    #[test]
    fn lists_of_cpus() {
        for (text, cpus) in
            [("", vec![]), ("3", vec![3]), ("0-2,5", vec![0, 1, 2, 5]), ("x,4,2-1,0-99999999", vec![4])]
        {
            assert_eq!(cpu_list(text), cpus, "{text}");
        }
    }

    /// Whatever the machine is: it has CPUs, and reading is no failure.
    #[test]
    fn this_host_can_be_read() {
        let topology = Topology::read(Path::new("/"), vec![0], &["lo".into()]);
        assert_eq!(topology.nics, [Nic { name: "lo".into(), node: None, cpus: Vec::new() }]);
    }
}
