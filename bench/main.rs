//! Measures what a user feels of Warren: launches, the first answer, memory, suspends and forks, a cold boot,
//! the demo.
//!
//! Everything is measured in one run on one machine, so that what counts, the ratios, holds on another
//! one. It judges nothing: goals stand beside the figures, and the exit code is 0.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report and its progress")]
#![forbid(unsafe_code)]

mod boot;
mod life;
mod report;
mod session;

use anyhow::{Context as _, ensure};
use clap::Parser;
use e2e::Site;
use report::{Report, Unit};
use session::{Image, Series, Standby};

/// Measure launches, memory, a cold boot and the demo (as root; takes some minutes)
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each is measured; the demo five times at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Only cold boots, and beside them suspends, resumes and forks
    #[arg(long)]
    life: bool,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// The demo is the slowest of all and varies little.
const DEMOS_MAX: u32 = 5;

fn main() -> anyhow::Result<()> {
    let Arguments { runs, life, json } = Arguments::parse();
    ensure!(nix::unistd::geteuid().is_root(), "VMs need root: use `make bench`, or sudo");
    let mut report = Report::new(runs);
    let site = Site::start();
    measure_engine(&site, runs, &mut report)?;
    if !life {
        measure_service(&site, runs, &mut report)?;
    }
    if json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// What is asked of the engine itself; the service does not run meanwhile.
fn measure_engine(site: &Site, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    step("cold boots");
    site.stop_up();
    let boots = boot::cold_boots(&site.data_dir(), runs).context("cold boots")?;
    report.add("cold_boot", Unit::Ms, boots);
    step("suspend, resume, forks");
    life::measure(&site.data_dir(), runs, report).context("suspend, resume, forks")
}

fn measure_service(site: &Site, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    session::build_larger_image(site)?;
    for image in [Image::Default, Image::Larger] {
        for standby in [Standby::On, Standby::Off] {
            let series = Series { image, standby };
            step(&format!("launches, {series}"));
            series.launches(site, runs, report);
        }
    }

    session::restart(site, Series { image: Image::Default, standby: Standby::On });
    step("first results");
    let first = (0..runs).map(|_| session::first_result_ms(site)).collect();
    report.add("first_result", Unit::Ms, first);
    step("memory");
    session::fleet(site, report);
    for _ in 0..runs {
        session::memory(site, report);
    }

    step("demos");
    report.add("demo", Unit::S, boot::demos(site, runs.min(DEMOS_MAX)));
    Ok(())
}

fn step(what: &str) {
    eprintln!("bench: {what}");
}
