//! Sections that are checked in full and recorded as not enforced.

use super::{level::Level, rules::Rules, words::each};
use crate::{
    diagnostic::quote,
    manifest::{
        Spanned,
        context::{Context, Problem},
        types::{Attributed, Device, DeviceSection},
    },
    names::DEVICE_CLASSES,
};

const WHY: &str = "this version does not watch them";

pub(super) fn device(
    section: &Spanned<DeviceSection>,
    above: &Level,
    rules: &mut Rules<'_, '_>,
    cx: &Context<'_>,
) {
    let level = above.below(section.attributes(), cx);
    let before = rules.written();
    cx.at("matchDevice", || {
        each(section.match_device.as_ref(), cx, |rule| {
            level.below(rule.attributes(), cx);
            device_rule(rule, cx);
            rules.count(1, rule.span)
        });
    });
    rules.expect_rules(before, section.span, "matchDevice");
    record(before, section, "`device` rules are", rules);
}

pub(super) fn apparmor(text: &Spanned<String>, rules: &mut Rules<'_, '_>, _: &Context<'_>) {
    if !text.trim().is_empty() {
        rules.count(1, text.span);
        rules.not_enforced(
            text.span,
            "`apparmor` rules are",
            "they need AppArmor as the enforcer",
        );
    }
}

/// Records a section that has rules.
fn record<T>(before: usize, section: &Spanned<T>, what: &str, rules: &mut Rules<'_, '_>) {
    if rules.written() > before {
        rules.not_enforced(section.span, what, WHY);
    }
}

fn device_rule(rule: &Device, cx: &Context<'_>) {
    let class = rule.class.as_str();
    let number = match class.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).is_ok(),
        None => class.parse::<u8>().is_ok(),
    };
    if !number && !DEVICE_CLASSES.contains(&class) {
        cx.at("class", || {
            let problem = Problem::error(
                rule.class.span,
                format!("unknown device class {}", quote(class)),
            );
            let problem = problem.allowed(class, DEVICE_CLASSES);
            cx.report(problem.help("or the number of a class, from 0 to 255 or 0x00 to 0xff"));
        });
    }
    for (field, number) in [("subClass", &rule.sub_class), ("protocol", &rule.protocol)] {
        if let Some(number) = number.as_ref().filter(|n| !(0..=255).contains(&n.value)) {
            let message = format!("`{field}` is not between 0 and 255");
            cx.at(field, || cx.report(Problem::error(number.span, message)));
        }
    }
    if let Some(level) = rule.level.as_ref().filter(|level| level.value < 1) {
        let set = !(cx.by_program() && level.value == 0);
        if set {
            cx.at("level", || {
                cx.report(Problem::error(level.span, "`level` is less than 1"))
            });
        }
    }
}
