//! Policies for containers of several namespaces.

use anyhow::{Context as _, Result, ensure};

use super::{Case, case};
use crate::support::{Container, DefaultPostures, Guest, Image, Watched};

pub(super) const CASES: &[Case] = &[case(
    "cluster_policies_are_about_the_namespaces_they_select",
    namespaces,
)];

const PAYMENTS: &str = "payments";
const STAGING: &str = "staging";

const SECRET: &str = "/etc/nginx/nginx.conf";
const FREE: &str = "/etc/nginx/mime.types";

fn manifest(operator: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorClusterPolicy\nmetadata:\n  \
         name: cluster-{}\nspec:\n  selector:\n    matchExpressions:\n    \
         - {{key: namespace, operator: {operator}, values: [{PAYMENTS}]}}\n    \
         - {{key: label, operator: In, values: [app=nginx]}}\n  \
         file:\n    matchPaths:\n    - path: {SECRET}\n  action: Block\n",
        operator.to_lowercase()
    )
}

fn container<'a>(guest: &'a Guest, watched: &Watched, namespace: &str) -> Result<Container<'a>> {
    let container = guest
        .container(Image::Debian)?
        .label("kubearmor.io/namespace", namespace)
        .start(&format!("cluster-{namespace}"))?;
    watched.enforcer.knows(container.name())?;
    Ok(container)
}

fn namespaces(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let payments = container(guest, watched, PAYMENTS)?;
        let staging = container(guest, watched, STAGING)?;
        for container in [&payments, &staging] {
            container
                .exec(&["cat", SECRET])?
                .success()
                .context("without a policy")?;
        }
        for (operator, selected, namespace, other) in [
            ("In", &payments, PAYMENTS, &staging),
            ("NotIn", &staging, STAGING, &payments),
        ] {
            let policy = watched.policy(&manifest(operator))?;
            other.exec(&["cat", SECRET])?.success()?;
            selected.exec(&["cat", FREE])?.success()?;
            let output = selected.exec(&["cat", SECRET])?;
            ensure!(output.denied(), "not refused: {output}");
            policy.expect(operator, |alert| alert["Resource"] == SECRET)?;
            let told = policy.alerts()?;
            let is_right = told.iter().all(|alert| {
                alert["Action"] == "Block"
                    && alert["PolicyName"] == policy.name()
                    && alert["ContainerName"] == selected.name()
                    && alert["NamespaceName"] == namespace
            });
            ensure!(told.len() == 1 && is_right, "one is due: {told:#?}");
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_sound() {
        for operator in ["In", "NotIn"] {
            crate::cases::assert_sound(&manifest(operator));
        }
    }
}
