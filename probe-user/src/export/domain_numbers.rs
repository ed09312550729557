// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gives groups of interfaces the numbers of their observation domains: a group is a bridge with its ports, or an
//! interface by itself, and is known by its name.
//!
//! A group that comes back gets the number it had, so that collectors see one engine go on. Numbers of
//! groups that left are given to others only when there is no unused one, the one that was left longest ago first.
//! With more than 256 groups at once, some share a number.

/// One for each engine id.
const NUMBERS: usize = 256;

#[derive(Clone, Debug)]
struct Group {
    name: String,
    number: u8,
    /// Interfaces that are there.
    members: usize,
}

/// See the module. Never more groups are remembered than there are at once, or numbers, whichever is more.
#[derive(Clone, Default, Debug)]
pub struct DomainNumbers {
    /// In the order in which they came, or in which their last member left.
    groups: Vec<Group>,
}

impl DomainNumbers {
    /// An interface joins a group; returns the number of the group.
    pub fn join(&mut self, name: &str) -> u8 {
        if let Some(group) = self.groups.iter_mut().find(|group| group.name == name) {
            group.members += 1;
            return group.number;
        }
        let number = self.unused().or_else(|| self.abandoned()).unwrap_or_else(|| self.least_used());
        self.groups.push(Group { name: name.to_owned(), number, members: 1 });
        number
    }

    /// An interface leaves a group.
    pub fn leave(&mut self, name: &str) {
        let Some(place) = self.groups.iter().position(|group| group.name == name) else { return };
        let mut group = self.groups.remove(place);
        group.members = group.members.saturating_sub(1);
        // A number that others have as well is not kept for it.
        if group.members > 0 || !self.groups.iter().any(|other| other.number == group.number) {
            self.groups.push(group);
        }
    }

    /// A group has another name from now on.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.groups
            .iter_mut()
            .filter(|group| group.name == from)
            .for_each(|group| to.clone_into(&mut group.name));
    }

    fn unused(&self) -> Option<u8> {
        (0..=u8::MAX).find(|number| !self.groups.iter().any(|group| group.number == *number))
    }

    /// Takes the number away from the group that left first.
    fn abandoned(&mut self) -> Option<u8> {
        let place = self.groups.iter().position(|group| group.members == 0)?;
        Some(self.groups.remove(place).number)
    }

    fn least_used(&self) -> u8 {
        let mut groups = [0_usize; NUMBERS];
        self.groups.iter().for_each(|group| groups[usize::from(group.number)] += 1);
        (0..=u8::MAX).min_by_key(|number| groups[usize::from(*number)]).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_bridge_share_a_number_which_it_gets_back() {
        let mut numbers = DomainNumbers::default();
        assert_eq!(["eth1", "br0", "br0", "eth2"].map(|group| numbers.join(group)), [0, 1, 1, 2]);
        numbers.leave("br0");
        assert_eq!(numbers.join("br0"), 1);
        for group in ["br0", "br0", "eth1", "nobody"] {
            numbers.leave(group);
        }
        assert_eq!(["eth3", "br0", "eth1"].map(|group| numbers.join(group)), [3, 1, 0]);
    }

    #[test]
    fn numbers_are_taken_from_who_left_first_and_shared_only_then() {
        let mut numbers = DomainNumbers::default();
        for number in 0..=255_u8 {
            assert_eq!(numbers.join(&format!("if{number}")), number);
        }
        assert_eq!(numbers.join("one too many"), 0);
        numbers.leave("one too many");
        numbers.leave("if9");
        numbers.leave("if7");
        assert_eq!(["new9", "new7", "shared", "shared"].map(|group| numbers.join(group)), [9, 7, 0, 0]);
        assert_eq!(numbers.join("if9"), 1, "its number is another's now, and the least used one is shared");
        for turn in 0..1000 {
            let name = format!("again{turn}");
            numbers.join(&name);
            numbers.leave(&name);
        }
        assert_eq!(numbers.groups.len(), 258);
    }
}
