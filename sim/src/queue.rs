//! How long requests wait and run at a node that is loaded so and so much.
//!
//! Requests come at random (Poisson) and run for times that vary as much as their mean
//! (exponential), on servers that take the next in line: M/M/c, with the probability to wait
//! after Sakasegawa. Above capacity a backlog grows and shrinks as a fluid does. Quantiles
//! of waiting and running together are worked out once a kind of node, for every hundredth
//! of a load.

/// Loads are told apart by hundredths, up to this one; beyond it the backlog tells.
const STEADY: usize = 97;

/// The shares of requests that are stood for by one time each, and where that time lies
/// among all.
pub const POINTS: [(f64, f64); 8] = [
    (0.40, 0.20),
    (0.30, 0.55),
    (0.15, 0.775),
    (0.08, 0.89),
    (0.04, 0.95),
    (0.015, 0.9775),
    (0.01, 0.99),
    (0.005, 0.9975),
];

/// Waiting and running at a node with so many servers, by load.
#[derive(Debug, Clone)]
pub struct Queue {
    servers: f64,
    service: f64,
    /// By hundredths of the load: seconds at each of [`POINTS`].
    sojourn: Vec<[f64; POINTS.len()]>,
    /// By hundredths of the load: what 99 of 100 waited at most, and what half and 99 of 100
    /// took at most, in seconds.
    told: Vec<Told>,
}

/// What a node says of its requests, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// 99 of 100 waited no longer.
    pub wait_p99: f64,
    /// Half of them took no longer.
    pub latency_p50: f64,
    /// 99 of 100 took no longer.
    pub latency_p99: f64,
}

impl Queue {
    /// A node of `servers` whose requests run for `service` seconds in the mean. Without end
    /// (infinity) nobody waits.
    pub fn new(servers: f64, service: f64) -> Self {
        let loads = 0..=STEADY;
        let line = |hundredth: usize| Line::new(servers, service, hundredth as f64 / 100.0);
        let lines: Vec<Line> = loads.map(line).collect();
        Self {
            servers,
            service,
            sojourn: lines.iter().map(|line| POINTS.map(|(_, at)| line.took(at))).collect(),
            told: lines
                .iter()
                .map(|line| Told {
                    wait_p99: line.waited(0.99),
                    latency_p50: line.took(0.5),
                    latency_p99: line.took(0.99),
                })
                .collect(),
        }
    }

    /// Seconds of work that it does in a second.
    pub fn servers(&self) -> f64 {
        self.servers
    }

    /// Seconds that a request runs.
    pub fn service(&self) -> f64 {
        self.service
    }

    /// Seconds at each of [`POINTS`], at this load (1: as much as it can do).
    pub fn sojourn(&self, load: f64) -> &[f64; POINTS.len()] {
        &self.sojourn[hundredth(load)]
    }

    /// What the node says of its requests at this load.
    pub fn told(&self, load: f64) -> Told {
        self.told[hundredth(load)]
    }
}

fn hundredth(load: f64) -> usize {
    ((load * 100.0).round().max(0.0) as usize).min(STEADY)
}

/// A line in front of servers that is in balance.
struct Line {
    /// How many of all wait.
    waits: f64,
    /// How long those wait in the mean.
    wait: f64,
    service: f64,
}

impl Line {
    fn new(servers: f64, service: f64, load: f64) -> Self {
        if servers.is_infinite() || load <= 0.0 {
            return Self { waits: 0.0, wait: service, service };
        }
        let waits = load.powf((2.0 * (servers + 1.0)).sqrt() - 1.0);
        Self { waits, wait: service / (servers * (1.0 - load)), service }
    }

    fn waited(&self, share: f64) -> f64 {
        match self.waits > 1.0 - share {
            true => (self.waits / (1.0 - share)).ln() * self.wait,
            false => 0.0,
        }
    }

    /// The share of requests that took longer.
    fn longer(&self, seconds: f64) -> f64 {
        let runs = (-seconds / self.service).exp();
        let apart = self.wait - self.service;
        let both = if apart.abs() < self.service * 1e-6 {
            (1.0 + seconds / self.service) * runs
        } else {
            (self.wait * (-seconds / self.wait).exp() - self.service * runs) / apart
        };
        (1.0 - self.waits) * runs + self.waits * both
    }

    fn took(&self, share: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.service);
        while self.longer(high) > 1.0 - share {
            high *= 2.0;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            match self.longer(middle) > 1.0 - share {
                true => low = middle,
                false => high = middle,
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_points_stand_for_all_requests() {
        let all: f64 = POINTS.iter().map(|(share, _)| share).sum();
        assert!((all - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_server_is_as_the_textbook_says() {
        // M/M/1: the time in the system is exponential with mean 1/(μ−λ).
        let queue = Queue::new(1.0, 0.02);
        let told = queue.told(0.8);
        let mean = 0.02 / 0.2;
        assert!((told.latency_p50 / (mean * 2_f64.ln()) - 1.0).abs() < 0.01, "{told:?}");
        assert!((told.latency_p99 / (mean * 100_f64.ln()) - 1.0).abs() < 0.01, "{told:?}");
        assert!((told.wait_p99 / (mean * 80_f64.ln()) - 1.0).abs() < 0.01, "{told:?}");
    }

    #[test]
    fn nobody_waits_where_there_are_servers_without_end() {
        let told = Queue::new(f64::INFINITY, 0.02).told(0.5);
        assert!(told.wait_p99 == 0.0 && (told.latency_p99 - 0.02 * 100_f64.ln()).abs() < 1e-6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn more_load_never_makes_it_quicker(servers in 1.0f64..64.0, load in 0.0f64..1.2) {
            let queue = Queue::new(servers, 0.02);
            let (less, more) = (queue.sojourn(load), queue.sojourn(load + 0.05));
            for (less, more) in less.iter().zip(more) {
                prop_assert!(less <= more && less.is_finite());
            }
        }
    }
}
