{{- define "turnfleet.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "turnfleet.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "turnfleet.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* Of everything; the part (gateway, worker, topics) is added where it is known. */}}
{{- define "turnfleet.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "turnfleet.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "turnfleet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* A setting's value as text. Helm reads every number of a file as a float: 67108864 would become 6.7108864e+07. */}}
{{- define "turnfleet.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* What a container reads beside the settings: secrets by reference, only those that match `of`; where the list of
topics lies. */}}
{{- define "turnfleet.env" -}}
{{- range $variable, $secret := .root.Values.secrets }}
{{- if and $secret (regexMatch $.of $variable) }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $secret.name | quote }}, key: {{ $secret.key | quote }}}
{{- end }}
{{- end }}
{{- if .root.Values.topics.configMap }}
- {name: FLEET_TOPICS_FILE, value: /etc/turnfleet/topics/topics.yaml}
{{- end }}
- {name: HOME, value: /tmp}
{{- end }}

{{/* The settings themselves, name by name. */}}
{{- define "turnfleet.settings" -}}
{{- range $variable, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $variable }}: {{ include "turnfleet.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "turnfleet.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kafkaTlsSecret }}
- {name: kafka-tls, mountPath: /etc/turnfleet/kafka, readOnly: true}
{{- end }}
{{- if .Values.topics.configMap }}
- {name: topics, mountPath: /etc/turnfleet/topics, readOnly: true}
{{- end }}
{{- end }}

{{- define "turnfleet.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- with .Values.kafkaTlsSecret }}
- {name: kafka-tls, secret: {secretName: {{ . | quote }}, defaultMode: 288}} # 0440
{{- end }}
{{- with .Values.topics.configMap }}
- {name: topics, configMap: {name: {{ . | quote }}}}
{{- end }}
{{- end }}

{{/* Of a pod: nobody is root, nobody talks to the API server. enableServiceLinks: for a Service called fleet-gateway
Kubernetes would otherwise put FLEET_GATEWAY_PORT=tcp://… into every container. */}}
{{- define "turnfleet.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "turnfleet.container" -}}
image: {{ include "turnfleet.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods of a part go: spread over nodes and zones where there are some; and what the values say. */}}
{{- define "turnfleet.placement" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "turnfleet.selector" $ | nindent 8 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $.root.Values $.part $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A pod template's annotations: settings that change start new pods. */}}
{{- define "turnfleet.annotations" -}}
checksum/settings: {{ include "turnfleet.settings" .root | sha256sum }}
{{- if .root.Values.metrics.annotations }}
prometheus.io/scrape: "true"
prometheus.io/path: /metrics
prometheus.io/port: {{ .port | quote }}
{{- end }}
{{- end }}

{{/* Whole seconds: the grace period of a worker, and 15 more for the start of `fleet drain`, for the kubelet and for
the container's end. */}}
{{- define "turnfleet.workerGrace" -}}
{{- $grace := index .Values.settings "FLEET_WORKER_GRACE_S" }}
{{- if kindIs "invalid" $grace }}{{ $grace = 30 }}{{ end }}
{{- add 15 (int64 (ceil (float64 $grace))) }}
{{- end }}

{{/* Liveness probes of a worker, one each 10 s, that fail before it is ended: two more than fit into the session timeout,
within which its watchdog ends it. */}}
{{- define "turnfleet.workerFailures" -}}
{{- $timeout := index .Values.settings "FLEET_KAFKA_SESSION_TIMEOUT_MS" }}
{{- if kindIs "invalid" $timeout }}{{ $timeout = 10000 }}{{ end }}
{{- add 2 (div (int64 $timeout) 10000) }}
{{- end }}
