{{/* What objects of this release are named: the release, with `weir` unless it says so. */}}
{{- define "weir.name" -}}
{{- $name := ternary .Release.Name (printf "%s-weir" .Release.Name) (contains "weir" .Release.Name) -}}
{{- $name | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{/* By what the controller's pods are found, also by the NetworkPolicies of jobs; never changes. */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "weir.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "weir.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* An image: a list of its values and the tag by default. */}}
{{- define "weir.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end }}
