{{/* One pod's template. Call with (dict "root" $ "name" NAME "image" IMAGE ...): args, command, env, secret, secretAt, folders, ours, torch. */}}
{{- define "l402-simnet.pod" -}}
metadata:
  labels: { app: {{ .name }}, release: {{ .root.Release.Name | quote }} }
spec:
  hostname: {{ .name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- if .job }}
  restartPolicy: OnFailure
  {{- end }}
  securityContext:
    {{- if .ours }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    {{- end }}
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: {{ .name }}
      image: {{ .image | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      {{- with .command }}
      command: {{ toJson . }}
      {{- end }}
      {{- with .args }}
      args: {{ toJson . }}
      {{- end }}
      {{- with .env }}
      env:
        {{- range $name, $value := . }}
        - { name: {{ $name }}, value: {{ $value | quote }} }
        {{- end }}
      {{- end }}
      {{- with .tcp }}
      readinessProbe: { tcpSocket: { port: {{ . }} }, periodSeconds: 5 }
      {{- end }}
      {{- if .ours }}
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
      {{- end }}
      resources: { requests: { cpu: 10m, memory: 32Mi }, limits: { memory: {{ default "1Gi" .memory }} } }
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
        {{- range $folder, $at := .folders }}
        - { name: kept, mountPath: {{ $at }}, subPath: {{ $folder }} }
        {{- end }}
        {{- if .secret }}
        - { name: secrets, mountPath: {{ default "/secrets" .secretAt }}, readOnly: true }
        {{- end }}
        {{- if and .torch .root.Values.torchFolder }}
        - { name: torch, mountPath: /app/torch, readOnly: true }
        {{- end }}
  volumes:
    - { name: tmp, emptyDir: {} }
    {{- if .folders }}
    - { name: kept, persistentVolumeClaim: { claimName: {{ .root.Release.Name }} } }
    {{- end }}
    {{- with .secret }}
    - { name: secrets, secret: { secretName: simnet-{{ . }}, defaultMode: {{ ternary "0440" "0444" (default false $.ours) }} } }
    {{- end }}
    {{- if and .torch .root.Values.torchFolder }}
    - { name: torch, hostPath: { path: {{ .root.Values.torchFolder | quote }}, type: Directory } }
    {{- end }}
{{- end -}}

{{/* What runs as long as the release does, and a name for it where it has ports. */}}
{{- define "l402-simnet.runs" -}}
apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .name }}, labels: { app: {{ .name }} } }
spec:
  replicas: 1
  strategy: { type: Recreate }
  selector: { matchLabels: { app: {{ .name }}, release: {{ .root.Release.Name | quote }} } }
  template:
    {{- include "l402-simnet.pod" . | nindent 4 }}
{{- if .ports }}
---
apiVersion: v1
kind: Service
metadata: { name: {{ .name }} }
spec:
  publishNotReadyAddresses: true
  selector: { app: {{ .name }}, release: {{ .root.Release.Name | quote }} }
  ports:
    {{- range .ports }}
    - { name: p{{ . }}, port: {{ . }} }
    {{- end }}
{{- end }}
---
{{ end -}}
