{{/* The pod of one service. Call with (dict "root" $ "name" NAME "facts" FACTS "values" VALUES). */}}
{{- define "l402-train.pod" -}}
{{- $root := .root }}{{- $facts := .facts }}{{- $values := .values -}}
metadata:
  labels:
    {{- include "l402-train.labels" . | nindent 4 }}
    {{- if $facts.lnd }}
    l402-train/reaches-lnd: "true"
    {{- end }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "l402-train.fullname" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "l402-train.podSecurity" . | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "l402-train.selector" . | nindent 10 }}
  containers:
    - name: {{ .name }}
      image: {{ include "l402-train.image" (dict "root" $root "image" $facts.image) | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- with $facts.args }}
      args: {{ toJson . }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ $facts.port }}
      securityContext:
        {{- include "l402-train.containerSecurity" . | nindent 8 }}
      env:
        {{- include "l402-train.variables" . | nindent 8 }}
      # the event loop of the consumers answers: a stuck one is restarted, and readiness names the part that is missing
      startupProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: http }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - { name: data, mountPath: /data/.l402-train }
        - { name: tmp, mountPath: /tmp }
        {{- if $facts.keys }}
        - { name: keys, mountPath: /keys, readOnly: true }
        {{- end }}
        {{- if $facts.lnd }}
        - { name: lnd, mountPath: /lnd, readOnly: true }
        {{- end }}
        {{- if and $facts.objects (eq $root.Values.objects.kind "volume") }}
        - { name: objects, mountPath: /objects }
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: { sizeLimit: {{ $values.tmpSize | quote }} }
    {{- if not $facts.kept }}
    - name: data
      emptyDir: { sizeLimit: 256Mi }
    {{- end }}
    {{- if $facts.keys }}
    - name: keys
      secret:
        secretName: {{ required (printf "%s.keys.secret: the secret that holds %s" .name $facts.keys) $values.keys.secret | quote }}
        defaultMode: 0440
        items:
          - { key: {{ $values.keys.key | quote }}, path: {{ $facts.keys | quote }} }
    {{- end }}
    {{- if $facts.lnd }}
    - name: lnd
      secret:
        secretName: {{ required (printf "%s.lnd.secret: the secret with its own macaroon and the node's certificate" .name) $values.lnd.secret | quote }}
        defaultMode: 0440
        items:
          - { key: {{ $values.lnd.certKey | quote }}, path: tls.cert }
          - { key: {{ $values.lnd.macaroonKey | quote }}, path: service.macaroon }
    {{- end }}
    {{- if and $facts.objects (eq $root.Values.objects.kind "volume") }}
    - name: objects
      persistentVolumeClaim:
        claimName: {{ include "l402-train.fullname" (dict "root" $root "name" "objects") }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Its environment: what the chart wires, then `config`, then `extraEnv`. */}}
{{- define "l402-train.variables" -}}
{{- $root := .root }}{{- $facts := .facts }}{{- $values := .values }}{{- $prefix := $facts.prefix -}}
- { name: {{ $prefix }}HTTP_HOST, value: "0.0.0.0" }
- { name: {{ $prefix }}HTTP_PORT, value: {{ $facts.port | quote }} }
- { name: {{ $prefix }}DATA_DIR, value: "/data/.l402-train" }
{{- if $facts.keys }}
- { name: {{ $prefix }}KEY_FILE, value: {{ printf "/keys/%s" $facts.keys | quote }} }
{{- end }}
{{- if $facts.lnd }}
- { name: {{ $prefix }}LND_HOST, value: {{ required (printf "%s.lnd.host: host:port of its LND" .name) $values.lnd.host | quote }} }
- { name: {{ $prefix }}LND_TLS_CERT, value: "/lnd/tls.cert" }
- { name: {{ $prefix }}LND_MACAROON, value: "/lnd/service.macaroon" }
- { name: {{ $prefix }}LND_NETWORK, value: {{ $root.Values.network | quote }} }
{{- end }}
{{- if eq .name "settler" }}
- { name: L402_SETTLER_ATTESTOR_PUBLIC, value: {{ required "public.attestor: the oracle's public key" $root.Values.public.attestor | quote }} }
- { name: L402_SETTLER_READING_PUBLIC, value: {{ required "public.reading: the key that payloads are sealed to" $root.Values.public.reading | quote }} }
- { name: L402_SETTLER_ATTESTOR_URL, value: {{ required "public.attestorUrl: where peers reach the oracle" $root.Values.public.attestorUrl | quote }} }
{{- else if eq .name "invoicer" }}
- { name: L402_INVOICER_ATTESTOR, value: {{ required "public.attestor: the oracle's public key" $root.Values.public.attestor | quote }} }
{{- else if eq .name "attestor" }}
- { name: L402_ATTESTOR_SETTLER_PUBLIC, value: {{ required "public.settler: the settler's public key" $root.Values.public.settler | quote }} }
{{- end }}
{{ include "l402-train.secretVariable" (dict "variable" (printf "%sNATS_URL" $prefix) "from" (merge dict (default dict $values.nats) $root.Values.nats)) }}
{{- if $facts.redis }}
{{ include "l402-train.secretVariable" (dict "variable" (printf "%sREDIS_URL" $prefix) "from" $root.Values.redis) }}
{{- end }}
{{- if $facts.sql }}
{{ include "l402-train.secretVariable" (dict "variable" (printf "%sDATABASE_URL" $prefix) "from" $values.database) }}
{{- end }}
{{- if $facts.objects }}
{{- with $root.Values.objects }}
- { name: {{ $prefix }}OBJECTS_URL, value: {{ ternary "file:///objects" .url (eq .kind "volume") | quote }} }
{{- if eq .kind "s3" }}
{{- with .endpoint }}
- { name: AWS_ENDPOINT_URL, value: {{ . | quote }} }
{{- end }}
- { name: AWS_REGION, value: {{ .region | quote }} }
{{- if .secret }}
{{ include "l402-train.secretVariable" (dict "variable" "AWS_ACCESS_KEY_ID" "from" (dict "secret" .secret "key" .accessKeyIdKey)) }}
{{ include "l402-train.secretVariable" (dict "variable" "AWS_SECRET_ACCESS_KEY" "from" (dict "secret" .secret "key" .secretAccessKeyKey)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $root.Values.telemetry.otlpEndpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- range $name, $value := $values.config }}
- { name: {{ $prefix }}{{ upper $name }}, value: {{ include "l402-train.value" $value | quote }} }
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A value as the services read it: lists as JSON, whole numbers in full (YAML's are floats here, and 1e+10 is no integer). */}}
{{- define "l402-train.value" -}}
{{- if kindIs "slice" . -}}{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}
{{- else -}}{{ . }}
{{- end -}}
{{- end -}}
