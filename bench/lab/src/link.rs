// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cables between namespaces.

use std::{fs, sync::Arc};

use anyhow::{Context, Result};

use serde_json::Value;

use crate::{Namespace, cpus, namespace::run};

/// One end of a cable.
#[derive(Clone, Debug)]
pub struct LinkEnd {
    /// Where it is.
    pub namespace: Arc<Namespace>,
    /// Its name there.
    pub name: String,
    /// Its ifIndex there.
    pub index: u32,
}

impl LinkEnd {
    /// Adds an IPv4 address such as `10.0.0.1/24`; the kernel then resolves neighbours by ARP again, so the
    /// frames on the cable are no longer ours alone.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn add_address(&self, address: &str) -> Result<()> {
        self.namespace.ip(&["link", "set", &self.name, "arp", "on"])?;
        self.namespace.ip(&["address", "add", address, "dev", &self.name]).map(drop)
    }

    /// Sets it `up` or `down`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set(&self, state: &str) -> Result<()> {
        self.namespace.ip(&["link", "set", &self.name, state]).map(drop)
    }

    /// Frames received since the interface exists, those given to XDP included.
    ///
    /// # Errors
    /// When the kernel does not show the interface.
    pub fn received_frames(&self) -> Result<u64> {
        let table = self.namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let prefix = format!("{}:", self.name);
        table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(prefix.as_str()))
            .and_then(|columns| columns.split_whitespace().nth(1)?.parse().ok())
            .with_context(|| {
                format!("no interface {} in /proc/net/dev of {}", self.name, self.namespace.name())
            })
    }

    /// Lets frames that XDP passes go up the stack merged, and frames arrive although no program is
    /// attached: what senders of live frames need when nothing on this end uses XDP.
    ///
    /// # Errors
    /// When `ethtool` refuses.
    pub fn receive_without_xdp(&self) -> Result<()> {
        self.namespace.run("ethtool", &["-K", &self.name, "gro", "on"]).map(drop)
    }

    /// Whether it has a link: a NIC may take a second for it, also when a program is attached or detached.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn has_carrier(&self) -> Result<bool> {
        Ok(self.namespace.ip(&["link", "show", "dev", &self.name])?.contains("LOWER_UP"))
    }

    /// Frames that could not leave it: at the end of a cable, those for which the other end's ring had no room
    /// (`veth_xmit`).
    ///
    /// # Errors
    /// When `ip` refuses or says something else.
    pub fn frames_not_sent(&self) -> Result<u64> {
        let said = self.namespace.ip(&["-json", "-statistics", "link", "show", "dev", &self.name])?;
        let links: Value = serde_json::from_str(&said)?;
        links[0]["stats64"]["tx"]["dropped"].as_u64().with_context(|| format!("no statistics: {said}"))
    }

    /// Whether an XDP program is attached.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn has_xdp(&self) -> Result<bool> {
        Ok(self.namespace.ip(&["link", "show", "dev", &self.name])?.contains("prog/xdp"))
    }
}

/// A cable (veth pair): both ends up, quiet, with as many queues as asked for.
#[derive(Clone, Debug)]
pub struct Link {
    /// The end that sends.
    pub sender: LinkEnd,
    /// The end that the probe watches.
    pub metered: LinkEnd,
}

impl Link {
    /// A cable between two new namespaces, `gen0` to `tap0`, with a queue for each CPU: several senders, each
    /// on a CPU of its own, do not get in each other's way (a veth end takes the queue by the sender's CPU).
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn for_many_senders(label: &str) -> Result<Self> {
        let last = cpus::allowed()?.last().copied().unwrap_or(0);
        Self::new(label, u32::try_from(last)? + 1)
    }

    /// A cable between two new namespaces: `gen0` to `tap0`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn new(label: &str, queues: u32) -> Result<Self> {
        let sender = Arc::new(Namespace::new(&format!("{label}-gen"))?);
        let metered = Arc::new(Namespace::new(&format!("{label}-tap"))?);
        Self::between(&sender, "gen0", &metered, "tap0", queues)
    }

    /// A cable that is there already, its two interfaces in this process' namespace: each moves to a new
    /// namespace, from where the kernel brings it back when that goes. For NICs.
    ///
    /// The receiving end takes every frame: the lab's are addressed to nobody, and a NIC is not a veth.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn adopt(label: &str, sender_name: &str, metered_name: &str) -> Result<Self> {
        let sender = Arc::new(Namespace::new(&format!("{label}-gen"))?);
        let metered = Arc::new(Namespace::new(&format!("{label}-tap"))?);
        for (namespace, name) in [(&sender, sender_name), (&metered, metered_name)] {
            run("ip", &["link", "set", name, "netns", namespace.name()])?;
            namespace.ip(&["link", "set", name, "arp", "off", "promisc", "on", "up"])?;
        }
        Ok(Self { sender: end(&sender, sender_name)?, metered: end(&metered, metered_name)? })
    }

    /// A cable between two namespaces, which may be the same.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn between(
        sender: &Arc<Namespace>,
        sender_name: &str,
        metered: &Arc<Namespace>,
        metered_name: &str,
        queues: u32,
    ) -> Result<Self> {
        let queues = queues.to_string();
        run(
            "ip",
            &[
                "-n",
                sender.name(),
                "link",
                "add",
                sender_name,
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
                "type",
                "veth",
                "peer",
                "name",
                metered_name,
                "netns",
                metered.name(),
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
            ],
        )?;
        for (namespace, name) in [(sender, sender_name), (metered, metered_name)] {
            namespace.ip(&["link", "set", name, "arp", "off", "up"])?;
        }
        Ok(Self { sender: end(sender, sender_name)?, metered: end(metered, metered_name)? })
    }
}

fn end(namespace: &Arc<Namespace>, name: &str) -> Result<LinkEnd> {
    let index = namespace
        .enter(|| nix::net::if_::if_nametoindex(name))?
        .with_context(|| format!("looking up {name} in {}", namespace.name()))?;
    Ok(LinkEnd { namespace: Arc::clone(namespace), name: name.to_owned(), index })
}
