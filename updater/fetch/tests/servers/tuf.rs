//! Signs metadata, right or wrong, with keys of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A key.
pub struct Key {
    pair: Ed25519KeyPair,
    id: String,
    public: Value,
}

impl Key {
    pub fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = json!({
            "keytype": "ed25519",
            "scheme": "ed25519",
            "keyval": { "public": hex(pair.public_key().as_ref()) },
        });
        Self {
            id: hex(&Sha256::digest(canonical(&public))),
            pair,
            public,
        }
    }
}

/// What a root says, and when its roles' metadata expires.
pub struct Signer {
    pub root: Vec<Key>,
    /// Signs timestamp, snapshot and targets.
    pub online: Key,
    pub root_version: u64,
    pub version: u64,
    pub expires: BTreeMap<&'static str, String>,
}

/// Long after any test.
const LATER: &str = "2999-01-01T00:00:00Z";

impl Signer {
    pub fn new() -> Self {
        Self {
            root: vec![Key::new(), Key::new()],
            online: Key::new(),
            root_version: 1,
            version: 1,
            expires: BTreeMap::new(),
        }
    }

    /// The root metadata, signed by its own keys and those of `former`.
    pub fn root(&self, former: &[Key]) -> Vec<u8> {
        let ids = |keys: &[Key]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        let mut keys: BTreeMap<&str, &Value> = BTreeMap::new();
        for key in self.root.iter().chain([&self.online]) {
            keys.insert(&key.id, &key.public);
        }
        let online = json!({ "keyids": [self.online.id], "threshold": 1 });
        let signed = json!({
            "_type": "root",
            "spec_version": "1.0.0",
            "consistent_snapshot": true,
            "version": self.root_version,
            "expires": self.expires("root"),
            "keys": keys,
            "roles": {
                "root": { "keyids": ids(&self.root), "threshold": self.root.len() },
                "timestamp": online, "snapshot": online, "targets": online,
            },
        });
        sign(&signed, self.root.iter().chain(former))
    }

    fn expires(&self, role: &str) -> String {
        self.expires
            .get(role)
            .map_or(LATER.to_owned(), Clone::clone)
    }

    /// Writes everything but the root, with these files as targets.
    pub fn write(&self, repository: &Path, targets: &[(&str, Vec<u8>)]) {
        let metadata = repository.join("metadata");
        let channels = repository.join("targets/channels");
        fs::create_dir_all(&metadata).unwrap();
        fs::create_dir_all(&channels).unwrap();
        let mut listed = BTreeMap::new();
        for (name, content) in targets {
            let sum = hex(&Sha256::digest(content));
            fs::write(channels.join(format!("{sum}.{name}")), content).unwrap();
            listed.insert(
                *name,
                json!({ "length": content.len(), "hashes": { "sha256": sum } }),
            );
        }
        let version = self.version;
        let document = |role: &str, more: Value| {
            let mut signed = json!({
                "_type": role, "spec_version": "1.0.0", "version": version,
                "expires": self.expires(role),
            });
            let fields = signed.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            sign(&signed, [&self.online])
        };
        let meta = |name: &str, content: &[u8]| {
            json!({ "meta": { name: {
                "version": version, "length": content.len(),
                "hashes": { "sha256": hex(&Sha256::digest(content)) },
            } } })
        };
        let targets = document("targets", json!({ "targets": listed }));
        let snapshot = document("snapshot", meta("targets.json", &targets));
        let timestamp = document("timestamp", meta("snapshot.json", &snapshot));
        fs::write(metadata.join(format!("{version}.targets.json")), targets).unwrap();
        fs::write(metadata.join(format!("{version}.snapshot.json")), snapshot).unwrap();
        fs::write(metadata.join("timestamp.json"), timestamp).unwrap();
    }

    /// Writes the root.
    pub fn write_root(&self, repository: &Path, former: &[Key]) -> Vec<u8> {
        let metadata = repository.join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        let root = self.root(former);
        let name = format!("{}.root.json", self.root_version);
        fs::write(metadata.join(name), &root).unwrap();
        root
    }
}

fn sign<'a>(signed: &Value, keys: impl IntoIterator<Item = &'a Key>) -> Vec<u8> {
    let text = canonical(signed);
    let signatures: Vec<Value> = keys
        .into_iter()
        .map(|key| json!({ "keyid": key.id, "sig": hex(key.pair.sign(&text).as_ref()) }))
        .collect();
    serde_json::to_vec_pretty(&json!({ "signatures": signatures, "signed": signed })).unwrap()
}

fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
    value.serialize(&mut serializer).unwrap();
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
