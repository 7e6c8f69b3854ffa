//! Which service comes before which.
//!
//! The edges are `requires` and `after` of all definitions. Those inside a
//! cycle order nothing, so what is left has an order, whatever the
//! definitions say.

use crate::{Service, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The order of the services. Services are given by their place in the
/// supervisor's list; made again whenever a definition changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// All services, each after those it depends on.
    pub(crate) order: Vec<usize>,
    /// For each service, those that it must start after and stop before.
    pub(crate) before: Vec<Vec<usize>>,
    /// For each service, those that require it.
    pub(crate) required_by: Vec<Vec<usize>>,
    /// For each service, the cycle that it is in, beginning with itself.
    cycles: Vec<Vec<usize>>,
}

impl Graph {
    /// `services` are sorted by name.
    pub(crate) fn new(services: &[Service]) -> Self {
        let mut required_by = vec![Vec::new(); services.len()];
        let mut edges: Vec<Vec<usize>> = Vec::with_capacity(services.len());
        for (at, service) in services.iter().enumerate() {
            let policy = &service.policy;
            for dependency in policy.requires.iter().filter_map(|n| find(services, n)) {
                required_by[dependency].push(at);
            }
            let names = policy.requires.union(&policy.after);
            edges.push(names.filter_map(|name| find(services, name)).collect());
        }
        let reach: Vec<_> = (0..edges.len()).map(|at| reach(&edges, at)).collect();
        // Who depends on another reaches all that this one reaches and, not
        // being in a cycle with it, itself too: so it reaches more.
        let mut order: Vec<_> = (0..edges.len()).collect();
        order.sort_by_key(|&at| reach[at].iter().filter(|&&reached| reached).count());
        let cycles = (0..edges.len())
            .map(|at| cycle(&edges, &reach, at))
            .collect();
        for (at, edges) in edges.iter_mut().enumerate() {
            edges.retain(|&to| !reach[to][at]);
        }
        Self {
            order,
            before: edges,
            required_by,
            cycles,
        }
    }

    /// The cycle that the service is in, beginning with itself; each waits
    /// for the next.
    pub(crate) fn cycle(&self, at: usize) -> Option<&[usize]> {
        self.cycles
            .get(at)
            .map(Vec::as_slice)
            .filter(|cycle| !cycle.is_empty())
    }
}

/// Where the service of this name is in the list sorted by name.
pub(crate) fn find(services: &[Service], name: &ServiceName) -> Option<usize> {
    services
        .binary_search_by(|service| service.name.cmp(name))
        .ok()
}

/// Which services `start` depends on, itself included.
fn reach(edges: &[Vec<usize>], start: usize) -> Vec<bool> {
    let mut reached = vec![false; edges.len()];
    reached[start] = true;
    let mut left = vec![start];
    while let Some(at) = left.pop() {
        for &to in &edges[at] {
            if !reached[to] {
                reached[to] = true;
                left.push(to);
            }
        }
    }
    reached
}

/// A shortest way from `start` back to itself; empty where there is none.
fn cycle(edges: &[Vec<usize>], reach: &[Vec<bool>], start: usize) -> Vec<usize> {
    if !edges[start].iter().any(|&to| reach[to][start]) {
        return Vec::new();
    }
    let mut from = vec![None; edges.len()];
    let mut left = VecDeque::from([start]);
    while let Some(at) = left.pop_front() {
        if edges[at].contains(&start) {
            let mut way = VecDeque::from([at]);
            let mut first = at;
            while let Some(previous) = from[first] {
                way.push_front(previous);
                first = previous;
            }
            return way.into();
        }
        for &to in &edges[at] {
            if to != start && from[to].is_none() {
                from[to] = Some(at);
                left.push_back(to);
            }
        }
    }
    Vec::new()
}
