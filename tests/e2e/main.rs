//! The binary against the programs people have. Each test has a gateway of its own.

mod access;
mod audit;
mod canary;
mod crash;
mod curl;
mod disaster;
mod erase;
mod export;
mod hostile;
mod hostile_web;
mod lftp;
mod litmus;
mod openssh;
mod paramiko;
mod quota;
mod ransomware;
mod rclone;
mod reclaim;
mod refusals;
mod round_trip;
mod second_reader;
mod snapshots;
mod sshfs;
mod tamper;
mod upgrade;
