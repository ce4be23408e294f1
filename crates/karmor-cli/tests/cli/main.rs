//! The program as users start it: in an environment without anything in it, against a daemon that
//! lives in the test.

mod fake;
mod generated;
mod logs;
mod offline;
mod probe;
mod run;
mod vm_policy;
mod vm_policy_trial;
