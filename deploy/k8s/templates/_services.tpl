{{/* What the chart knows of each service: one table, which every template walks. Values say the rest. */}}
{{- define "l402-train.services" -}}
gateway:
  image: gateway
  prefix: L402_GATEWAY_
  port: 8402
  keys: gateway.json
  redis: true
  objects: true
  public: true
invoicer:
  image: invoicer
  prefix: L402_INVOICER_
  port: 8404
  lnd: true
  kept: true      # its tally of what it has sent: the caps' memory
settler:
  image: settler
  prefix: L402_SETTLER_
  port: 8405
  keys: settler.json
  lnd: true
  sql: true
attestor:
  image: oracle
  args: [attestor]
  prefix: L402_ATTESTOR_
  port: 8403
  keys: attestor.json
  lnd: true
  sql: true
  objects: true
  public: true
  unready: true   # what it has decided it tells whatever becomes of the node it reads heights from
worker:
  image: oracle
  args: [worker]
  prefix: L402_WORKER_
  port: 8406
  keys: worker.json
  objects: true
  torch: true
{{- end -}}

{{/* One name for everything of one service. Call with (dict "root" $ "name" NAME). */}}
{{- define "l402-train.fullname" -}}
{{- printf "%s-%s" (.root.Release.Name | trunc 40 | trimSuffix "-") .name -}}
{{- end -}}

{{- define "l402-train.selector" -}}
app.kubernetes.io/name: l402-train
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "l402-train.labels" -}}
{{ include "l402-train.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: l402-train
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "l402-train.image" -}}
{{- with .root.Values.image -}}
{{ .registry }}/{{ $.image }}:{{ default $.root.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}

{{- define "l402-train.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "l402-train.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A variable whose value is a secret's. Call with (dict "variable" NAME "from" {secret, key}). */}}
{{- define "l402-train.secretVariable" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ required (printf "%s needs the name of a secret" .variable) .from.secret | quote }}
      key: {{ .from.key | quote }}
{{- end -}}
