//! Who is interested in what: exact subjects by hash, then topics by trie, then
//! projects by hash, then the few who want everything.

use std::collections::HashMap;
use std::sync::Arc;

use super::subscription::Interest;

/// Interests by id, so that one is found again when it ends.
type Leaf = HashMap<u64, Arc<Interest>>;

/// Where interests are filed. One is filed under each of its subjects if it
/// names any, else under each of its patterns, else under each of its projects,
/// else under everything.
#[derive(Default)]
pub struct Index {
    by_subject: HashMap<Box<str>, Leaf>,
    by_topic: Node,
    by_project: HashMap<Box<str>, Leaf>,
    everything: Leaf,
    count: usize,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// Patterns with `*` in this place.
    star: Option<Box<Node>>,
    /// Patterns that end here.
    here: Leaf,
    /// Patterns that end here in `>`.
    rest: Leaf,
}

impl Index {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn insert(&mut self, interest: &Arc<Interest>) {
        self.count += 1;
        let filter = &interest.filter;
        if !filter.subjects.is_empty() {
            for subject in &filter.subjects {
                file(&mut self.by_subject, subject, interest);
            }
        } else if !filter.types.is_empty() {
            for pattern in &filter.types {
                self.by_topic.insert(pattern.segments(), interest);
            }
        } else if !filter.projects.is_empty() {
            for project in &filter.projects {
                file(&mut self.by_project, project.as_str(), interest);
            }
        } else {
            self.everything.insert(interest.id, Arc::clone(interest));
        }
    }

    pub fn remove(&mut self, interest: &Interest) {
        self.count -= 1;
        let filter = &interest.filter;
        if !filter.subjects.is_empty() {
            for subject in &filter.subjects {
                unfile(&mut self.by_subject, subject, interest.id);
            }
        } else if !filter.types.is_empty() {
            for pattern in &filter.types {
                self.by_topic.remove(pattern.segments(), interest.id);
            }
        } else if !filter.projects.is_empty() {
            for project in &filter.projects {
                unfile(&mut self.by_project, project.as_str(), interest.id);
            }
        } else {
            self.everything.remove(&interest.id);
        }
    }

    /// Visits every interest that an event may match; one with several patterns
    /// may be visited more than once.
    pub fn each(
        &self,
        topic: &str,
        subject: &str,
        project: &str,
        mut visit: impl FnMut(&Arc<Interest>),
    ) {
        self.everything.values().for_each(&mut visit);
        if let Some(leaf) = self.by_project.get(project) {
            leaf.values().for_each(&mut visit);
        }
        if let Some(leaf) = self.by_subject.get(subject) {
            leaf.values().for_each(&mut visit);
        }
        self.by_topic.each(Some(topic), &mut visit);
    }
}

fn file(leaves: &mut HashMap<Box<str>, Leaf>, name: &str, interest: &Arc<Interest>) {
    leaves.entry(name.into()).or_default().insert(interest.id, Arc::clone(interest));
}

fn unfile(leaves: &mut HashMap<Box<str>, Leaf>, name: &str, id: u64) {
    if let Some(leaf) = leaves.get_mut(name) {
        leaf.remove(&id);
        if leaf.is_empty() {
            leaves.remove(name);
        }
    }
}

impl Node {
    fn insert<'a>(
        &mut self,
        mut segments: impl Iterator<Item = &'a str>,
        interest: &Arc<Interest>,
    ) {
        let leaf = match segments.next() {
            None => &mut self.here,
            Some(">") => &mut self.rest,
            Some("*") => return self.star.get_or_insert_default().insert(segments, interest),
            Some(literal) => {
                return self.children.entry(literal.into()).or_default().insert(segments, interest);
            }
        };
        leaf.insert(interest.id, Arc::clone(interest));
    }

    fn remove<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>, id: u64) {
        match segments.next() {
            None => drop(self.here.remove(&id)),
            Some(">") => drop(self.rest.remove(&id)),
            Some("*") => {
                if let Some(star) = &mut self.star {
                    star.remove(segments, id);
                    if star.is_empty() {
                        self.star = None;
                    }
                }
            }
            Some(literal) => {
                if let Some(child) = self.children.get_mut(literal) {
                    child.remove(segments, id);
                    if child.is_empty() {
                        self.children.remove(literal);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.star.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }

    /// `topic` is what is left of it below this node; `None` at its end.
    fn each(&self, topic: Option<&str>, visit: &mut impl FnMut(&Arc<Interest>)) {
        let Some(topic) = topic else {
            return self.here.values().for_each(visit);
        };
        self.rest.values().for_each(&mut *visit);
        let (segment, rest) = match topic.split_once('.') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (topic, None),
        };
        if let Some(child) = self.children.get(segment) {
            child.each(rest, visit);
        }
        if let Some(star) = &self.star {
            star.each(rest, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Filter, Project, Severity};
    use proptest::prelude::*;

    fn interest(id: u64, filter: Filter) -> Arc<Interest> {
        Arc::new(Interest::new(id, filter, false))
    }

    proptest! {
        /// The index is only a short cut: it finds whatever the filter admits.
        #[test]
        fn finds_what_filters_admit(
            patterns in prop::collection::vec("(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?", 1..8),
            subjects in prop::collection::vec("[xy]", 0..3),
            topic in "(a|b)(\\.(a|b)){1,3}",
            subject in "[xyz]",
        ) {
            let mut index = Index::default();
            let mut all = Vec::new();
            for (id, pattern) in patterns.iter().enumerate() {
                let mut filter = Filter::default().with_types(pattern).unwrap();
                if id % 2 == 0 {
                    filter.subjects.clone_from(&subjects);
                }
                if id % 3 == 2 {
                    filter = Filter::default();
                }
                if id % 4 == 2 {
                    filter.projects = vec![Project::default_project()];
                }
                if id % 5 == 3 {
                    filter.projects = vec![Project::parse("other").unwrap()];
                }
                all.push(interest(id as u64, filter));
                index.insert(&all[id]);
            }
            let mut found = std::collections::BTreeSet::new();
            index.each(&topic, &subject, "default", |interest| { found.insert(interest.id); });
            for interest in &all {
                if interest.filter.admits(&topic, &subject, "default", Severity::Info) {
                    prop_assert!(found.contains(&interest.id));
                }
            }
            for interest in &all {
                index.remove(interest);
            }
            prop_assert_eq!(index.len(), 0);
            prop_assert!(index.by_topic.is_empty() && index.by_subject.is_empty());
            prop_assert!(index.by_project.is_empty() && index.everything.is_empty());
        }
    }
}
