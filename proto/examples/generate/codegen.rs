//! Rust from the .proto files. No protoc: protox parses them.

use std::{error::Error, fs, path::Path};

use prost_types::{FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use protox::Compiler;

const FILES: [&str; 3] = ["kubearmor.proto", "policy.proto", "karmor.proto"];

/// The descriptors' file, for gRPC reflection.
pub(crate) const DESCRIPTORS: &str = "descriptors.bin";

/// Numbers for which zero says something (root, init, a parent outside of the container): they
/// are in the JSON form even so.
const ZERO_MATTERS: [&str; 3] = ["PPID", "PID", "UID"];

/// Writes the generated files for the .proto files of `protos` into `out`.
pub(crate) fn generate(protos: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut compiler = Compiler::new([protos])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(FILES)?;
    fs::write(out.join(DESCRIPTORS), compiler.encode_file_descriptor_set())?;

    compiler.include_source_info(true);
    let descriptors = compiler.file_descriptor_set();
    let mut builder = tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .btree_map(".")
        .type_attribute(
            ".karmor.v1",
            "#[derive(serde::Serialize, serde::Deserialize)]",
        )
        .message_attribute(
            ".karmor.v1",
            "#[serde(rename_all = \"camelCase\", default)]",
        )
        .enum_attribute(".karmor.v1", "#[serde(rename_all = \"camelCase\")]")
        .message_attribute(".feeder", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".feeder", "#[serde(default)]");
    for (path, attribute) in feeder_json(&descriptors) {
        builder = builder.field_attribute(path, attribute);
    }
    for (path, attribute) in enum_json(&descriptors) {
        builder = builder.field_attribute(path, attribute);
    }
    builder.compile_fds(descriptors)?;
    // Well-known types come along as an import; nothing of ours is in there.
    let empty = out.join("google.protobuf.rs");
    if empty.exists() {
        fs::remove_file(empty)?;
    }
    Ok(())
}

/// The JSON form of events: names as in the .proto file, zero values left out.
fn feeder_json(descriptors: &FileDescriptorSet) -> Vec<(String, String)> {
    fields(descriptors, "feeder")
        .map(|(message, field)| {
            let name = field.name();
            let skip = match field.r#type() {
                _ if ZERO_MATTERS.contains(&name) => "",
                _ if field.type_name().ends_with("EventDataEntry") => {
                    ", skip_serializing_if = \"std::collections::BTreeMap::is_empty\""
                }
                Type::Message => ", skip_serializing_if = \"Option::is_none\"",
                _ if field.label() == prost_types::field_descriptor_proto::Label::Repeated => {
                    ", skip_serializing_if = \"Vec::is_empty\""
                }
                Type::String => ", skip_serializing_if = \"String::is_empty\"",
                _ => ", skip_serializing_if = \"crate::json::is_zero\"",
            };
            (
                format!("feeder.{message}.{name}"),
                format!("#[serde(rename = \"{name}\"{skip})]"),
            )
        })
        .collect()
}

/// Enumerations in JSON are their names, not numbers.
fn enum_json(descriptors: &FileDescriptorSet) -> Vec<(String, String)> {
    fields(descriptors, "karmor.v1")
        .filter(|(_, field)| field.r#type() == Type::Enum)
        .map(|(message, field)| {
            let module = field
                .type_name()
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .to_lowercase();
            (
                format!("karmor.v1.{message}.{}", field.name()),
                format!("#[serde(with = \"crate::json::{module}\")]"),
            )
        })
        .collect()
}

fn fields<'a>(
    descriptors: &'a FileDescriptorSet,
    package: &'a str,
) -> impl Iterator<Item = (&'a str, &'a FieldDescriptorProto)> {
    descriptors
        .file
        .iter()
        .filter(move |file| file.package() == package)
        .flat_map(|file| &file.message_type)
        .flat_map(|message| message.field.iter().map(|field| (message.name(), field)))
}
