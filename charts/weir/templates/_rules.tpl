{{/* What the controller may do in each namespace that it looks after: what its modules apply, observe and events say. */}}
{{- define "weir.rules" -}}
# Jobs and savepoints: what users want, and what becomes of it. Patched are only finalizers.
- apiGroups: [weir.dev]
  resources: [streamjobs, savepoints]
  verbs: [list, watch, patch]
- apiGroups: [weir.dev]
  resources: [streamjobs/status, savepoints/status]
  verbs: [patch]
# Workers; where they find their manifest and their leader.
- apiGroups: [""]
  resources: [pods, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, patch, delete]
# Certificates of jobs, and whether the secrets of jobs are there: by name. Nothing lists secrets.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update]
# Whether it is being deleted.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
