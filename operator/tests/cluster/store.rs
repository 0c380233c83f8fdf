//! Objects as an API server keeps them: uids, versions, preconditions, finalizers, owners, server-side apply (approximated:
//! lists are replaced as a whole), and a log that watches read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A kind of objects: group and plural.
pub(crate) type Kind = (String, String);
/// An object's place.
pub(crate) type Place = (Kind, String, String);

/// One change, as watches see it.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

pub(crate) type Answer = Result<Value, Refusal>;

fn refuse(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { code, reason, message: message.into() }
}

#[derive(Clone, Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<Place, Value>,
    pub(crate) version: u64,
    pub(crate) log: Vec<Change>,
    /// What was applied last to an object.
    applied: BTreeMap<Place, Value>,
    uids: u64,
    addresses: u64,
    /// The time, as objects are stamped with it.
    pub(crate) now: jiff::Timestamp,
    /// Creations of this kind are refused with these words.
    pub(crate) denied: Option<(String, String)>,
}

impl Store {
    pub(crate) fn get(&self, place: &Place) -> Answer {
        self.objects.get(place).cloned().ok_or_else(|| refuse(404, "NotFound", format!("{} not found", place.2)))
    }

    pub(crate) fn list(&self, kind: &Kind, namespace: Option<&str>, selector: &str) -> Vec<Value> {
        let of = self.objects.iter().filter(|((of, within, _), _)| of == kind && namespace.is_none_or(|n| n == within));
        of.map(|(_, object)| object.clone()).filter(|object| matches(object, selector)).collect()
    }

    pub(crate) fn create(&mut self, kind: &Kind, namespace: &str, mut object: Value) -> Answer {
        if let Some((denied, message)) = &self.denied
            && *denied == kind.1
        {
            return Err(refuse(403, "Forbidden", message.clone()));
        }
        let name = object["metadata"]["name"].as_str().expect("objects have names").to_owned();
        let place = (kind.clone(), namespace.to_owned(), name.clone());
        if self.objects.contains_key(&place) {
            return Err(refuse(409, "AlreadyExists", format!("{} \"{name}\" already exists", kind.1)));
        }
        self.uids += 1;
        let meta = &mut object["metadata"];
        meta["namespace"] = json!(namespace);
        meta["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.uids));
        meta["creationTimestamp"] = json!(self.now.to_string());
        meta["generation"] = json!(1);
        if kind.1 == "services" && object["spec"]["clusterIP"].is_null() {
            self.addresses += 1;
            object["spec"]["clusterIP"] = json!(format!("10.96.0.{}", self.addresses));
        }
        if kind.1 == "pods" {
            object["status"] = json!({"phase": "Pending"});
        }
        Ok(self.put(&place, object))
    }

    pub(crate) fn replace(&mut self, place: &Place, object: Value) -> Answer {
        let before = self.get(place)?;
        check_version(&before, &object)?;
        Ok(self.put(place, object))
    }

    /// A merge patch of an object, or of its status alone.
    pub(crate) fn merge(&mut self, place: &Place, patch: &Value, status: bool) -> Answer {
        let before = self.get(place)?;
        check_version(&before, patch)?;
        let mut after = before;
        match status {
            true => merge(&mut after["status"], &patch["status"]),
            false => {
                let mut patch = patch.clone();
                patch.as_object_mut().expect("a patch is an object").remove("status");
                merge(&mut after, &patch);
            }
        }
        Ok(self.put(place, after))
    }

    pub(crate) fn apply(&mut self, place: &Place, mut wanted: Value) -> Answer {
        let kept = wanted.clone();
        let answer = match self.objects.get(place).cloned() {
            None if wanted["metadata"]["resourceVersion"].is_string() => {
                Err(refuse(409, "Conflict", "the object is gone"))
            }
            None => self.create(&place.0, &place.1, wanted),
            Some(before) => {
                check_version(&before, &wanted)?;
                wanted["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
                let mut after = before;
                if let Some(last) = self.applied.get(place) {
                    remove_unwanted(&mut after, last, &wanted);
                }
                merge(&mut after, &wanted);
                Ok(self.put(place, after))
            }
        };
        if answer.is_ok() {
            self.applied.insert(place.clone(), kept);
        }
        answer
    }

    /// Pods go when their kubelet says so; what has finalizers, when these are gone.
    pub(crate) fn delete(&mut self, place: &Place, uid: Option<&str>) -> Answer {
        let before = self.get(place)?;
        if uid.is_some_and(|uid| before["metadata"]["uid"] != uid) {
            return Err(refuse(409, "Conflict", "the uid in the precondition is not that of the object"));
        }
        if !before["metadata"]["deletionTimestamp"].is_null() {
            return Ok(before);
        }
        let mut after = before;
        after["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
        let waits = place.0.1 == "pods" && !after["spec"]["nodeName"].is_null();
        if waits || !finalizers(&after).is_empty() {
            return Ok(self.put(place, after));
        }
        self.remove(place);
        Ok(after)
    }

    /// Takes an object away at once, and everything that it owns.
    pub(crate) fn remove(&mut self, place: &Place) {
        let Some(mut before) = self.objects.remove(place) else { return };
        self.applied.remove(place);
        self.version += 1;
        before["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let uid = before["metadata"]["uid"].clone();
        self.log(place, Some(before), None);
        let owned = |object: &Value| {
            object["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|of| of.iter().any(|owner| owner["uid"] == uid))
        };
        let dependents: Vec<Place> =
            self.objects.iter().filter(|(_, object)| owned(object)).map(|(place, _)| place.clone()).collect();
        for dependent in dependents {
            self.remove(&dependent);
        }
    }

    /// Writes an object, if anything in it has changed.
    pub(crate) fn put(&mut self, place: &Place, mut object: Value) -> Value {
        let before = self.objects.get(place).cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if *before == object {
                return object;
            }
            if before["spec"] != object["spec"] {
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let deleted = !object["metadata"]["deletionTimestamp"].is_null();
        let held = place.0.1 == "pods" && !object["spec"]["nodeName"].is_null();
        self.objects.insert(place.clone(), object.clone());
        if deleted && finalizers(&object).is_empty() && !held {
            self.remove(place);
        } else {
            self.log(place, before, Some(object.clone()));
        }
        object
    }

    fn log(&mut self, place: &Place, before: Option<Value>, after: Option<Value>) {
        let (kind, namespace) = (place.0.clone(), place.1.clone());
        self.log.push(Change { version: self.version, kind, namespace, before, after });
    }
}

fn finalizers(object: &Value) -> Vec<Value> {
    object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default()
}

fn check_version(before: &Value, wanted: &Value) -> Result<(), Refusal> {
    for field in ["resourceVersion", "uid"] {
        let (has, says) = (&before["metadata"][field], &wanted["metadata"][field]);
        if !says.is_null() && has != says {
            return Err(refuse(409, "Conflict", format!("the object has been modified: {field} is {has}, not {says}")));
        }
    }
    Ok(())
}

/// JSON merge patch.
pub(crate) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut object[key.as_str()], value);
        }
    }
}

/// Fields that were applied last time and are not wanted any more.
fn remove_unwanted(object: &mut Value, last: &Value, wanted: &Value) {
    let (Value::Object(last), Some(fields)) = (last, object.as_object_mut()) else { return };
    for (key, value) in last {
        match wanted.get(key) {
            None => drop(fields.remove(key)),
            Some(wanted) => {
                if let Some(field) = fields.get_mut(key) {
                    remove_unwanted(field, value, wanted);
                }
            }
        }
    }
}

/// Whether an object has the labels of a selector: `a=b,c`.
pub(crate) fn matches(object: &Value, selector: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((name, value)) => labels[name] == value,
        None => !labels[part].is_null(),
    })
}
