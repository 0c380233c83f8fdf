{{/* What the controller may do in each namespace that it looks after. */}}
{{- define "weir.rules" -}}
# Jobs and savepoints: what users want, and what becomes of it.
- apiGroups: [weir.dev]
  resources: [streamjobs, savepoints]
  verbs: [get, list, watch, patch]
- apiGroups: [weir.dev]
  resources: [streamjobs/status, savepoints/status]
  verbs: [get, update, patch]
# Where owners of objects are checked, only who may set finalizers may own.
- apiGroups: [weir.dev]
  resources: [streamjobs/finalizers, savepoints/finalizers]
  verbs: [update]
# Workers. Pods are never changed but for the label that scales them.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# Configuration of revisions, SQL of sqlFrom, the leader's address.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
# Certificates of jobs, by name. Without list and watch, secrets whose names nobody knows stay unknown.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
