// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which interface belongs to which observation domain, while interfaces come and go.
//!
//! Domains are numbered from 0; engine ids and domain ids of collectors count up from the configured ones by
//! that number. The interfaces of a bridge share one, others have their own. Flows of an interface that has left may
//! still come: its index is remembered until 256 others have left.

use std::collections::VecDeque;

/// Engine ids there are; beyond, interfaces share domains.
const MAX_DOMAINS: usize = 256;
/// Indexes remembered of interfaces that have left.
const MAX_FORMER: usize = 256;

/// See the module.
#[derive(Clone, Default, Debug)]
pub(super) struct Membership {
    /// Index and domain of those that are there and of those that have left, by index.
    places: Vec<(u32, u8)>,
    /// Those that are there, by domain.
    members: Vec<Vec<u32>>,
    /// Those that have left, the first of them first.
    former: VecDeque<u32>,
}

impl Membership {
    /// The domain of an interface that is there or was.
    pub(super) fn find_known(&self, interface: u32) -> Option<u8> {
        let place = self.places.binary_search_by_key(&interface, |(index, _)| *index).ok()?;
        self.places.get(place).map(|(_, domain)| *domain)
    }

    /// The domain of an interface. One that nobody announced gets a domain of its own: one that never had
    /// members, then one that has none, then it shares.
    pub(super) fn find(&mut self, interface: u32) -> u8 {
        if let Some(domain) = self.find_known(interface) {
            return domain;
        }
        let next = self.members.len();
        let free = if next < MAX_DOMAINS { Some(next) } else { self.members.iter().position(Vec::is_empty) };
        let [shared, ..] = interface.to_le_bytes();
        let domain = free.and_then(|free| u8::try_from(free).ok()).unwrap_or(shared);
        self.add(interface, domain);
        domain
    }

    /// The interface belongs to the domain from now on, and to no other.
    pub(super) fn add(&mut self, interface: u32, domain: u8) {
        self.forget(interface);
        let number = usize::from(domain);
        if self.members.len() <= number {
            self.members.resize_with(number + 1, Vec::new);
        }
        self.members[number].push(interface);
        self.place(interface, domain);
    }

    /// The interface has left its domain, to which flows that still come belong. Returns the domain.
    pub(super) fn remove(&mut self, interface: u32) -> Option<u8> {
        let domain = self.find_known(interface)?;
        self.forget(interface);
        if self.former.len() == MAX_FORMER
            && let Some(oldest) = self.former.front().copied()
        {
            self.forget(oldest);
        }
        self.former.push_back(interface);
        self.place(interface, domain);
        Some(domain)
    }

    /// The interface with index `from` was made anew and has `to`: it stays in its domain, which is returned.
    pub(super) fn moved(&mut self, from: u32, to: u32) -> u8 {
        let domain = self.find(from);
        if from != to {
            self.remove(from);
            self.add(to, domain);
        }
        domain
    }

    /// The interfaces of a domain that are there.
    pub(super) fn members(&self, domain: u8) -> &[u32] {
        self.members.get(usize::from(domain)).map_or(&[], Vec::as_slice)
    }

    /// Domains that have, or had, members lie below this number.
    pub(super) fn domains(&self) -> usize {
        self.members.len()
    }

    fn place(&mut self, interface: u32, domain: u8) {
        let place = self.places.partition_point(|(index, _)| *index < interface);
        self.places.insert(place, (interface, domain));
    }

    fn forget(&mut self, interface: u32) {
        self.places.retain(|(index, _)| *index != interface);
        self.former.retain(|index| *index != interface);
        self.members.iter_mut().for_each(|members| members.retain(|index| *index != interface));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_a_domain_and_others_get_the_next() {
        let mut domains = Membership::default();
        for (interface, domain) in [(10, 0), (11, 0), (20, 1)] {
            domains.add(interface, domain);
        }
        assert_eq!([10, 11, 20, 7, 11, 7].map(|index| domains.find(index)), [0, 0, 1, 2, 0, 2]);
        assert_eq!(
            (domains.members(0), domains.members(2), domains.members(9)),
            (&[10, 11][..], &[7][..], &[][..])
        );
        domains.add(20, 0);
        assert_eq!((domains.find(20), domains.members(1)), (0, &[][..]));
        domains.add(30, 7);
        assert_eq!((domains.find(30), domains.domains()), (7, 8));
    }

    #[test]
    fn flows_of_who_left_still_belong_to_the_domain_that_others_may_take() {
        let mut domains = Membership::default();
        domains.add(10, 0);
        domains.add(20, 1);
        assert_eq!(domains.remove(10), Some(0));
        assert_eq!((domains.remove(99), domains.members(0)), (None, &[][..]));
        assert_eq!((domains.find(10), domains.members(0)), (0, &[][..]), "a late flow brings nobody back");
        domains.add(30, 0);
        assert_eq!((domains.find(10), domains.find(30), domains.members(0)), (0, 0, &[30][..]));
        // The kernel gave the index to another interface.
        domains.add(10, 1);
        assert_eq!((domains.find(10), domains.members(1)), (1, &[20, 10][..]));
    }

    #[test]
    fn an_interface_made_anew_stays_in_its_domain() {
        let mut domains = Membership::default();
        domains.add(10, 0);
        domains.add(11, 0);
        assert_eq!(domains.moved(10, 40), 0);
        assert_eq!((domains.find(40), domains.find(10), domains.members(0)), (0, 0, &[11, 40][..]));
        assert_eq!((domains.moved(40, 40), domains.members(0)), (0, &[11, 40][..]));
        assert_eq!((domains.moved(90, 91), domains.find(91)), (1, 1), "also one that was not known");
    }

    #[test]
    fn what_comes_and_goes_for_ever_takes_no_more_room() {
        let mut domains = Membership::default();
        for index in 0..5_000 {
            domains.add(index, 3);
            domains.remove(index);
        }
        assert_eq!((domains.places.len(), domains.former.len()), (MAX_FORMER, MAX_FORMER));
        assert_eq!((domains.find(4_999), domains.find(4_744)), (3, 3));
        // And with more interfaces than there are engine ids, some share and none is lost.
        let mut domains = Membership::default();
        let numbers: Vec<u8> = (1000..1300).map(|index| domains.find(index)).collect();
        let own: Vec<u8> = (0..=255).collect();
        assert_eq!((&numbers[..256], domains.domains()), (&own[..], 256));
        assert!((1000..1300).zip(&numbers).all(|(index, number)| domains.find(index) == *number));
        domains.remove(1030);
        assert_eq!(domains.find(5_000), 30, "a domain that has nobody any more");
    }
}
