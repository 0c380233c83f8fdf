//! The manifests: good ones, bad ones with what is said of them, and changes that are forbidden.

/// A manifest with mistakes: what `parse` says, as `line:column path: message (hint)`, and what CEL says, if it does.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) said: &'static [&'static str],
    pub(crate) cel: &'static [&'static str],
}

const HEAD: &str = "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: bids}\n";

/// Completes the table's short forms: `spec:` alone gets a head, and fields at two spaces a pipeline.
pub(crate) fn complete(manifest: &str) -> String {
    let manifest = manifest.strip_prefix('\n').unwrap_or(manifest);
    if manifest.starts_with("  ") {
        return format!("{HEAD}spec:\n  pipeline: {{sql: SELECT 1}}\n{manifest}");
    }
    if manifest.starts_with("spec:") { format!("{HEAD}{manifest}") } else { manifest.to_owned() }
}

pub(crate) const GOOD: &[&str] = &[
    "  parallelism: 1\n",
    "---\napiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: b, namespace: prod}\nspec: {pipeline: {sql: x}}\n---\n",
    "\u{feff}apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: b}\nspec: {pipeline: {sql: x}}\n",
    "spec:\n  pipeline: {sqlFrom: {configMapKeyRef: {name: queries, key: top.sql}}}\n",
    "  checkpoint: {interval: 1d, timeout: 2d, unaligned: {after: 1d12h}}\n",
    "  checkpoint: {unaligned: {}}\n  restoreFrom: {}\n",
    "  checkpoint:\n  storage: {s3:, local: {path: ./state}}\n",
    "  restart: {none: {}}\n  storage: {persistentVolumeClaim: {claimName: state, subPath: a/b..c}}\n",
    "  restart: {fixedDelay: {}}\n  restoreFrom: {savepoint: before-upgrade}\n",
    "  restart: {failureRate: {window: 1m}}\n  restoreFrom: {job: {name: bids-old}}\n",
    "  restart: {exponentialDelay: {multiplier: 1.5, jitter: 0}}\n  parallelism: 32768\n  maxParallelism: 32768\n",
    r#"
  worker:
    image: registry.example/weir:1
    resources: {requests: {cpu: 2, memory: 4Gi}, limits: {cpu: 500m, memory: "1.5Gi"}}
    podTemplate:
      metadata: {labels: {app.kubernetes.io/part-of: shop}, annotations: {note: x}}
      spec:
        nodeSelector: {disk: ssd}
        tolerations: [{key: spot, operator: Exists, effect: NoSchedule}]
        affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}
        serviceAccountName: jobs
        imagePullSecrets: [{name: registry}]
        env: [{name: RUST_LOG, value: debug}, {name: TOKEN, valueFrom: {secretKeyRef: {name: kafka, key: token}}}]
        volumes: [{name: certificates, secret: {secretName: kafka}}]
        volumeMounts: [{name: certificates, mountPath: /certificates}]
"#,
    r"
apiVersion: weir.dev/v1alpha1
kind: StreamJob
metadata:
  name: read-back
  namespace: default
  uid: 2f4f2a6e-5d8e-4f5c-9a58-0f1f7f0f2d11
  resourceVersion: '42'
  generation: 3
  creationTimestamp: '2026-01-01T00:00:00Z'
  labels: {team: a}
  managedFields:
  - {manager: kubectl, operation: Apply, fieldsType: FieldsV1, fieldsV1: {'f:spec': {}}}
spec: {pipeline: {sql: x}}
status: {state: Running, anything: 1}
",
];

pub(crate) const BAD: &[Bad] = &[
    Bad {
        name: "nothing",
        manifest: "# only a comment\n",
        said: &[
            "the manifest is empty (hint: write a StreamJob: apiVersion, kind, metadata.name and spec.pipeline.sql)",
        ],
        cel: &[],
    },
    Bad {
        name: "two documents",
        manifest: "spec: {pipeline: {sql: x}}\n---\nkind: Job\n",
        said: &["6:1 a second YAML document begins here (hint: put each StreamJob into a file of its own)"],
        cel: &[],
    },
    Bad {
        name: "broken YAML",
        manifest: "spec:\n  pipeline: {sql: x\n  parallelism: 1\n",
        said: &[
            "6:14 the YAML cannot be read: while parsing a flow mapping, did not find expected ',' or '}' (hint: close every { and [, and quote text in which they stand for themselves)",
        ],
        cel: &[],
    },
    Bad {
        name: "a tab",
        manifest: "spec:\n\tpipeline: x\n",
        said: &[
            "5:2 the YAML cannot be read: tabs disallowed within this context (block indentation) (hint: indent with spaces, YAML takes no tabs)",
        ],
        cel: &[],
    },
    Bad {
        name: "a tab on the next line",
        manifest: "spec:\n  pipeline: x\n\tparallelism: 1\n",
        said: &[
            "5:13 the YAML cannot be read: while scanning a plain scalar, found a tab (hint: indent with spaces, YAML takes no tabs)",
        ],
        cel: &[],
    },
    Bad {
        name: "a colon in a text",
        manifest: "spec: a: b\n",
        said: &[
            "4:8 the YAML cannot be read: mapping values are not allowed in this context (hint: indent the fields of a map alike, and quote text in which ': ' or ' #' stands)",
        ],
        cel: &[],
    },
    Bad {
        name: "a key twice",
        manifest: "  parallelism: 1\n  parallelism: 2\n",
        said: &["7:3 the field parallelism is written twice in one map (hint: keep one of them)"],
        cel: &[],
    },
    Bad {
        name: "SQL instead of a manifest",
        manifest: "SELECT 1",
        said: &[
            "1:1 expected a StreamJob, found something that is no map of fields (hint: a manifest begins with apiVersion: weir.dev/v1alpha1 and kind: StreamJob; SQL goes into spec.pipeline.sql)",
        ],
        cel: &[],
    },
    Bad {
        name: "another kind",
        manifest: "apiVersion: weir.dev/v1alpha1\nkind: Streamjob\nspec: {}\n",
        said: &[
            "2:7 kind: expected StreamJob, found Streamjob (hint: this reads manifests with apiVersion: weir.dev/v1alpha1 and kind: StreamJob)",
        ],
        cel: &[],
    },
    Bad {
        name: "another version",
        manifest: "apiVersion: weir.dev/v1\nkind: StreamJob\nspec: {}\n",
        said: &[
            "1:13 apiVersion: expected weir.dev/v1alpha1, found weir.dev/v1 (hint: this reads manifests with apiVersion: weir.dev/v1alpha1 and kind: StreamJob)",
        ],
        cel: &[],
    },
    Bad {
        name: "all is missing",
        manifest: "{}",
        said: &[
            "1:1 apiVersion: missing required field (hint: write apiVersion: weir.dev/v1alpha1)",
            "1:1 kind: missing required field (hint: write kind: StreamJob)",
            "1:1 metadata: missing required field (hint: name the job: metadata with a name)",
            "1:1 spec: missing required field (hint: What the job computes, how wide it runs, and how it survives failures)",
        ],
        cel: &[],
    },
    Bad {
        name: "every kind of mistake at once",
        manifest: r#"
spec:
  pipelin: {sql: x}
  pipeline: {sql: "  ", sqlFrom: {configMapKeyRef: {name: Queries, key: k}}}
  paralelism: 4
  sql: SELECT 1
  frobnicate: true
  parallelism: "4"
  maxParallelism: 40000
  slotsPerWorker: 1.5
  state: running
  upgradeMode: Magic
  allowDroppedState: "no"
  checkpoint: {interval: 10, timeout: 5min, minPause: 1.5s, retain: 0}
  storage: [s3]
  restart: {fixedDelay: {attempts: 0}, none: {}}
  worker: {image: 7, resources: {limits: {memory: 4 GB}}, podTemplate: {spec: {env: [{value: x}], tolerations: {}}}}
"#,
        said: &[
            "5:3 spec.pipelin: unknown field (hint: did you mean pipeline?)",
            "6:19 spec.pipeline.sql: holds no SQL (hint: write CREATE TABLE and INSERT INTO statements)",
            "6:25 spec.pipeline.sqlFrom: sql and sqlFrom exclude each other (hint: keep one of sql, sqlFrom)",
            "6:59 spec.pipeline.sqlFrom.configMapKeyRef.name: \"Queries\" is not the name of an object (hint: names hold a-z, 0-9, - and ., with a letter or digit at both ends)",
            "7:3 spec.paralelism: unknown field (hint: did you mean parallelism?)",
            "8:3 spec.sql: unknown field (hint: did you mean spec.pipeline.sql?)",
            "9:3 spec.frobnicate: unknown field (hint: the fields here are allowDroppedState, checkpoint, deletionPolicy, maxParallelism, parallelism, pipeline, restart, restoreFrom, rollback, slotsPerWorker, state, storage, upgradeMode, worker)",
            "10:16 spec.parallelism: expected a whole number, found the text \"4\" (hint: remove the quotes)",
            "11:19 spec.maxParallelism: expected a number from 1 to 32768, found 40000",
            "12:19 spec.slotsPerWorker: expected a whole number, found the number 1.5",
            "13:10 spec.state: expected Running or Suspended, found \"running\" (hint: did you mean Running?)",
            "14:16 spec.upgradeMode: expected Savepoint, LastCheckpoint or Stateless, found \"Magic\"",
            "15:22 spec.allowDroppedState: expected true or false, found the text \"no\"",
            "16:26 spec.checkpoint.interval: expected a duration such as 10s or 1h30m, found the number 10 (hint: add the unit: 10s or 10ms)",
            "16:39 spec.checkpoint.timeout: \"5min\" has the unknown unit `min`; for minutes write m",
            "16:55 spec.checkpoint.minPause: \"1.5s\" has a fraction; use a smaller unit, for example 1m30s instead of 1.5m",
            "16:69 spec.checkpoint.retain: expected a number from 1 to 1000, found 0",
            "17:12 spec.storage: expected a map with local, persistentVolumeClaim, s3, found a list",
            "18:36 spec.restart.fixedDelay.attempts: expected a number from 1 to 1000000, found 0",
            "18:40 spec.restart.none: fixedDelay and none exclude each other (hint: keep one of exponentialDelay, fixedDelay, failureRate, none)",
            "19:19 spec.worker.image: expected text, found the number 7 (hint: put it between quotes to make it a text)",
            "19:51 spec.worker.resources.limits.memory: \"4 GB\" is not an amount such as 500m, 2 or 4Gi (hint: CPU is written as 2 or 500m, memory as 512Mi or 4Gi)",
            "19:86 spec.worker.podTemplate.spec.env[0].name: missing required field (hint: Name of the environment variable)",
            "19:112 spec.worker.podTemplate.spec.tolerations: expected a list, found a map of fields",
        ],
        cel: &[],
    },
    Bad {
        name: "a name that is too long",
        manifest: "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: a23456789-123456789-123456789-123456789-123456}\nspec: {pipeline: {sql: x}}\n",
        said: &[
            "3:18 metadata.name: has 46 characters, more than 45 (hint: pods and services add suffixes to the name)",
        ],
        cel: &["longer than 45"],
    },
    Bad {
        name: "a name that is none",
        manifest: "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: 1.bids}\nspec: {pipeline: {sql: x}}\n",
        said: &[
            "3:18 metadata.name: \"1.bids\" cannot be the name of a job (hint: names begin with a letter and hold only a-z, 0-9 and -, no - at the end)",
        ],
        cel: &["must begin with a letter"],
    },
    Bad {
        name: "a generated name and a bad namespace",
        manifest: "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {generateName: bids-, namespace: A_b, lables: {}}\nspec: {pipeline: {sql: x}}\n",
        said: &[
            "3:1 metadata.name: missing required field (hint: generateName is for kubectl create; a job is its name)",
            "3:44 metadata.namespace: \"A_b\" cannot be the name of a namespace (hint: namespaces hold only a-z, 0-9 and -, at most 63 characters)",
            "3:49 metadata.lables: unknown field (hint: did you mean labels?)",
        ],
        cel: &[],
    },
    Bad {
        name: "two pipelines",
        manifest: "spec:\n  pipeline:\n    sql: x\n    sqlFrom: {configMapKeyRef: {name: a, key: b}}\n",
        said: &["7:5 spec.pipeline.sqlFrom: sql and sqlFrom exclude each other (hint: keep one of sql, sqlFrom)"],
        cel: &["exactly one of sql and sqlFrom"],
    },
    Bad {
        name: "no pipeline",
        manifest: "spec: {pipeline: {}}\n",
        said: &["4:18 spec.pipeline: needs one of sql, sqlFrom"],
        cel: &["exactly one of sql and sqlFrom"],
    },
    Bad {
        name: "more parallel than key groups",
        manifest: "  parallelism: 200\n",
        said: &[
            "6:16 spec.parallelism: 200 is above maxParallelism, which is 128 (hint: a job has maxParallelism key groups to spread; it can be set for a new job only)",
        ],
        cel: &["parallelism is above"],
    },
    Bad {
        name: "no rule is judged by a field that is wrong itself",
        manifest: "  parallelism: 200\n  maxParallelism: many\n",
        said: &["7:19 spec.maxParallelism: expected a whole number, found the text \"many\""],
        cel: &[],
    },
    Bad {
        name: "two storages",
        manifest: "  storage:\n    s3: {bucket: abc}\n    local: {path: x}\n",
        said: &[
            "8:5 spec.storage.local: s3 and local exclude each other (hint: keep one of s3, local, persistentVolumeClaim)",
        ],
        cel: &["exactly one of s3, local"],
    },
    Bad {
        name: "no storage in storage",
        manifest: "  storage: {}\n",
        said: &["6:12 spec.storage: needs one of s3, local, persistentVolumeClaim"],
        cel: &["exactly one of s3, local"],
    },
    Bad {
        name: "a storage misspelt",
        manifest: "  storage: {locl: {path: x}}\n",
        said: &["6:13 spec.storage.locl: unknown field (hint: did you mean local?)"],
        cel: &[],
    },
    Bad {
        name: "a bucket that is an address",
        manifest: "  storage: {s3: {bucket: 's3://b/x', prefix: /a/, endpoint: 'minio:9000', credentialsSecretRef: {}}}\n",
        said: &[
            "6:26 spec.storage.s3.bucket: \"s3://b/x\" is not the name of a bucket (hint: write the bucket alone, without s3:// and path: the path goes into prefix)",
            "6:46 spec.storage.s3.prefix: \"/a/\" is not a prefix of object keys (hint: prefixes hold letters, digits, -, _, . and =, with single slashes between, such as jobs/prod)",
            "6:61 spec.storage.s3.endpoint: \"minio:9000\" is not an http or https address (hint: write it with its scheme, such as https://minio.example:9000)",
            "6:97 spec.storage.s3.credentialsSecretRef.name: missing required field (hint: Name of the Secret)",
        ],
        cel: &[
            "expected the name of a bucket",
            "expected a prefix of object keys",
            "expected an http or https address",
        ],
    },
    Bad {
        name: "texts of wrong forms",
        manifest: "  checkpoint: {interval: 10sec}\n  worker: {resources: {limits: {memory: 4 GB, cpu: 2}}}\n  restoreFrom: {savepoint: Before}\n",
        said: &[
            "6:26 spec.checkpoint.interval: \"10sec\" has the unknown unit `sec`; for seconds write s",
            "7:41 spec.worker.resources.limits.memory: \"4 GB\" is not an amount such as 500m, 2 or 4Gi (hint: CPU is written as 2 or 500m, memory as 512Mi or 4Gi)",
            "8:28 spec.restoreFrom.savepoint: \"Before\" is not the name of an object (hint: names hold a-z, 0-9, - and ., with a letter or digit at both ends)",
        ],
        cel: &["expected a duration such as", "expected an amount such as", "expected the name of an object"],
    },
    Bad {
        name: "a key that is none",
        manifest: "spec:\n  pipeline: {sqlFrom: {configMapKeyRef: {name: queries, key: top sql}}}\n",
        said: &[
            "5:62 spec.pipeline.sqlFrom.configMapKeyRef.key: \"top sql\" is not a key of a ConfigMap (hint: keys hold letters, digits, -, _ and .)",
        ],
        cel: &["expected a key of a ConfigMap"],
    },
    Bad {
        name: "a folder outside of the volume",
        manifest: "  storage: {persistentVolumeClaim: {claimName: c, subPath: a/../..}}\n",
        said: &["6:60 spec.storage.persistentVolumeClaim.subPath: must be relative to the volume and hold no `..`"],
        cel: &["relative to the volume"],
    },
    Bad {
        name: "two strategies",
        manifest: "  restart: {none: {}, fixedDelay: {}}\n",
        said: &[
            "6:13 spec.restart.none: fixedDelay and none exclude each other (hint: keep one of exponentialDelay, fixedDelay, failureRate, none)",
        ],
        cel: &["needs exactly one of exp"],
    },
    Bad {
        name: "no strategy",
        manifest: "  restart: {}\n",
        said: &["6:12 spec.restart: needs one of exponentialDelay, fixedDelay, failureRate, none"],
        cel: &["needs exactly one of exp"],
    },
    Bad {
        name: "delays that do not grow",
        manifest: "  restart: {exponentialDelay: {initial: 2m, multiplier: 0.5, jitter: 2}}\n",
        said: &[
            "6:41 spec.restart.exponentialDelay.initial: 2m is longer than max, which is 1m",
            "6:57 spec.restart.exponentialDelay.multiplier: expected a number from 1 to 100, found 0.5",
            "6:70 spec.restart.exponentialDelay.jitter: expected a number from 0 to 1, found 2",
        ],
        cel: &["initial is longer"],
    },
    Bad {
        name: "no first delay",
        manifest: "  restart: {exponentialDelay: {initial: 0s}}\n",
        said: &["6:41 spec.restart.exponentialDelay.initial: is zero: the wait could not grow"],
        cel: &["initial is zero"],
    },
    Bad {
        name: "no window",
        manifest: "  restart: {failureRate: {window: 0ms}}\n",
        said: &["6:35 spec.restart.failureRate.window: is zero: no failure would be counted"],
        cel: &["window is zero"],
    },
    Bad {
        name: "no deadline",
        manifest: "  rollback: {deadline: 0s}\n",
        said: &[
            "6:24 spec.rollback.deadline: is zero: every upgrade would be undone (hint: to keep failed upgrades set spec.rollback.enabled: false)",
        ],
        cel: &["deadline is zero"],
    },
    Bad {
        name: "no interval",
        manifest: "  checkpoint: {interval: 5ms}\n",
        said: &["6:26 spec.checkpoint.interval: 5ms is shorter than 10ms"],
        cel: &["interval is shorter"],
    },
    Bad {
        name: "no timeout",
        manifest: "  checkpoint: {timeout: 0s}\n",
        said: &["6:25 spec.checkpoint.timeout: 0s is shorter than 10ms"],
        cel: &["timeout is shorter"],
    },
    Bad {
        name: "unaligned too late",
        manifest: "  checkpoint: {timeout: 1m, unaligned: {after: 60s}}\n",
        said: &[
            "6:48 spec.checkpoint.unaligned.after: 1m is not shorter than the timeout, 1m (hint: a checkpoint is given up at its timeout, so this would never happen)",
        ],
        cel: &["unaligned.after is not shorter"],
    },
    Bad {
        name: "several origins",
        manifest: "  restoreFrom: {savepoint: a, path: b}\n",
        said: &[
            "6:31 spec.restoreFrom.path: savepoint and path exclude each other (hint: keep one of savepoint, path, job)",
        ],
        cel: &["at most one of savepoint"],
    },
];

/// Old and new spec, the path of the mistake, and CEL's message.
pub(crate) const FORBIDDEN_CHANGES: &[(&str, &str, &str, &str)] = &[
    ("  maxParallelism: 128\n", "  maxParallelism: 256\n", "spec.maxParallelism", "maxParallelism cannot be changed"),
    ("  storage: {local: {path: a}}\n", "  state: Running\n", "spec.storage", "storage cannot be removed"),
    ("  storage: {local: {path: a}}\n", "  storage: {local: {path: b}}\n", "spec.storage", "storage cannot be moved"),
    ("  storage: {local: {path: a}}\n", "  storage: {s3: {bucket: abc}}\n", "spec.storage", "storage cannot be moved"),
    ("  storage: {s3: {bucket: abc}}\n", "  storage: {s3: {bucket: abd}}\n", "spec.storage", "storage cannot be moved"),
    (
        "  storage: {s3: {bucket: abc}}\n",
        "  storage: {s3: {bucket: abc, prefix: p}}\n",
        "spec.storage",
        "storage cannot be moved",
    ),
    (
        "  storage: {persistentVolumeClaim: {claimName: a}}\n",
        "  storage: {persistentVolumeClaim: {claimName: a, subPath: b}}\n",
        "spec.storage",
        "storage cannot be moved",
    ),
];
