//! Samples, their medians, and one table of them with the targets.

use std::fmt;

use super::Side;

/// A bound on a figure of ours.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Times the figure of another, at most.
    AtMost(f64, Side),
    /// Times the figure of another, at least: more is better.
    AtLeast(f64, Side),
    /// Below everybody's.
    FasterThanAll,
    /// At most so much, whatever the others do.
    Absolute(f64),
}

/// The figures of one row, by side.
#[derive(Debug)]
pub struct Samples {
    what: String,
    unit: &'static str,
    targets: Vec<Target>,
    by_side: Vec<(Side, Vec<f64>)>,
}

impl Samples {
    /// None yet.
    pub fn new(what: impl Into<String>, unit: &'static str, targets: &[Target]) -> Self {
        Self { what: what.into(), unit, targets: targets.to_vec(), by_side: Vec::new() }
    }

    /// Adds one.
    pub fn add(&mut self, side: Side, figure: f64) {
        match self.by_side.iter_mut().find(|(known, _)| *known == side) {
            Some((_, figures)) => figures.push(figure),
            None => self.by_side.push((side, vec![figure])),
        }
    }

    /// What was measured last of each, for those who watch.
    pub fn tell(&self, round: usize) {
        let last: Vec<String> = self
            .by_side
            .iter()
            .filter_map(|(side, figures)| Some(format!("{side} {:.3}", figures.last()?)))
            .collect();
        eprintln!("  round {}: {} ({}): {}", round + 1, self.what, self.unit, last.join(", "));
    }

    fn of(&self, side: Side) -> Option<f64> {
        self.by_side.iter().find(|(known, _)| *known == side).map(|(_, figures)| median(figures))
    }

    fn holds(&self, target: Target, ours: f64) -> Option<bool> {
        match target {
            Target::AtMost(times, side) => Some(ours <= times * self.of(side)?),
            Target::AtLeast(times, side) => Some(ours >= times * self.of(side)?),
            Target::FasterThanAll => {
                let others: Vec<f64> = Side::ALL
                    .iter()
                    .filter(|side| **side != Side::Coffre)
                    .filter_map(|side| self.of(*side))
                    .collect();
                (!others.is_empty()).then(|| others.iter().all(|other| ours < *other))
            }
            Target::Absolute(most) => Some(ours <= most),
        }
    }

    fn target_cell(&self, target: Target, ours: f64, server: &str) -> String {
        let wanted = match target {
            Target::AtMost(times, side) => format!("{times:.2} x {}", side.head(server)),
            Target::AtLeast(times, side) => format!("at least {times:.2} x {}", side.head(server)),
            Target::FasterThanAll => "below all".to_owned(),
            Target::Absolute(most) => format!("{most:.0} {}", self.unit),
        };
        let verdict = match self.holds(target, ours) {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not compared",
        };
        format!("{wanted}: {verdict}")
    }
}

/// Wall time and the server's CPU of one kind of work.
#[derive(Debug)]
pub struct Figures {
    wall: Samples,
    cpu: Samples,
}

impl Figures {
    /// None yet.
    pub fn new(what: &str, wall: &[Target], cpu: &[Target]) -> Self {
        Self { wall: Samples::new(what, "s", wall), cpu: Samples::new(what, "server CPU s", cpu) }
    }

    /// Adds one of each.
    pub fn add(&mut self, side: Side, (wall, cpu): (f64, f64)) {
        self.wall.add(side, wall);
        self.cpu.add(side, cpu);
    }

    /// As [`Samples::tell`].
    pub fn tell(&self, round: usize) {
        self.wall.tell(round);
        self.cpu.tell(round);
    }

    /// As rows of a table.
    pub fn rows(self) -> [Samples; 2] {
        [self.wall, self.cpu]
    }
}

/// The middle of what was seen.
pub fn median(figures: &[f64]) -> f64 {
    percentile(figures, 50.0)
}

/// The figure below which so many of a hundred lie; between two it is as far from both as the number says.
pub fn percentile(figures: &[f64], percent: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let (place, below) = {
        let place = last as f64 * percent / 100.0;
        (place, place.floor() as usize)
    };
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// All rows, as they are printed.
#[derive(Debug)]
pub struct Table {
    sides: Vec<Side>,
    server: &'static str,
    rows: Vec<Samples>,
    notes: Vec<String>,
}

impl Table {
    /// Nothing measured yet; the usual server has this name.
    pub fn new(sides: &[Side], server: &'static str) -> Self {
        Self { sides: sides.to_vec(), server, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds rows.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Samples>) {
        self.rows.extend(rows);
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads: Vec<String> = self.sides.iter().map(|side| side.head(self.server)).collect();
        writeln!(to, "| what (median; ratio to it) | unit | {} | rounds | target |", heads.join(" | "))?;
        writeln!(to, "|---|---|{}---|---|", "---|".repeat(heads.len()))?;
        for row in &self.rows {
            let ours = row.of(Side::Coffre);
            write!(to, "| {} | {} |", row.what, row.unit)?;
            for side in &self.sides {
                match (row.of(*side), ours) {
                    (Some(figure), Some(ours)) if *side != Side::Coffre => {
                        write!(to, " {figure:.2} ({:.2}) |", ours / figure)?;
                    }
                    (Some(figure), _) => write!(to, " {figure:.2} |")?,
                    (None, _) => write!(to, " - |")?,
                }
            }
            let rounds = row.by_side.iter().map(|(_, figures)| figures.len()).max().unwrap_or(0);
            let targets: Vec<String> = ours.map_or_else(Vec::new, |ours| {
                row.targets.iter().map(|target| row.target_cell(*target, ours, self.server)).collect()
            });
            writeln!(to, " {rounds} | {} |", targets.join("; "))?;
        }
        for note in &self.notes {
            writeln!(to, "\n{note}")?;
        }
        Ok(())
    }
}
