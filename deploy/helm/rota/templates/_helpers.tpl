{{- define "rota.name" -}}
{{- if contains "rota" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-rota" (.Release.Name | trunc 45 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "rota.selector" -}}
app.kubernetes.io/name: rota
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rota.labels" -}}
{{ include "rota.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "rota.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "rota.workerImage" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- printf "%s:%s" (.Values.worker.image.repository | default .Values.image.repository) (.Values.worker.image.tag | default $tag) }}
{{- end }}

{{- /* Whether the store is a directory of the node. */ -}}
{{- define "rota.embedded" -}}
{{- if hasPrefix "file:" .Values.store.url }}true{{ end }}
{{- end }}

{{- /* Whether nodes have names of their own: for the volume of an embedded store, or in certificates. */ -}}
{{- define "rota.named" -}}
{{- if or (include "rota.embedded" .) .Values.tls.existingSecret }}true{{ end }}
{{- end }}

{{- define "rota.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- define "rota.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "rota.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Annotations for deploy/prometheus/kubernetes.yml. */ -}}
{{- define "rota.scraped" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ . | quote }}
{{- end }}

{{- define "rota.nodePod" -}}
metadata:
  labels:
    {{- include "rota.labels" . | nindent 4 }}
    app.kubernetes.io/component: node
  annotations:
    checksum/config: {{ .Values.node.config | sha256sum }}
    {{- if and .Values.monitoring.annotations (not .Values.monitoring.serviceMonitor) }}
    {{- include "rota.scraped" "7420" | nindent 4 }}
    {{- end }}
    {{- with .Values.node.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rota.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.node.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "rota.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.node.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.node.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "rota.selector" . | nindent 10 }}
          app.kubernetes.io/component: node
  containers:
    - name: node
      image: {{ include "rota.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [server, --config, /etc/rota/rota.toml]
      securityContext:
        {{- include "rota.containerSecurity" . | nindent 8 }}
      env:
        - name: ROTA_NODE
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: ROTA_LISTEN
          value: 0.0.0.0:7420
        {{- if and .Values.tls.existingSecret (not (include "rota.embedded" .)) }}
        # A name of the certificate. Other nodes may need half a minute to see the new address of a restarted node.
        - name: ROTA_ADVERTISE
          value: https://$(ROTA_NODE).{{ include "rota.name" . }}-nodes.{{ .Release.Namespace }}.svc:7420
        {{- else if not (include "rota.embedded" .) }}
        - name: ROTA_ADVERTISE
          value: http://$(POD_IP):7420
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - name: ROTA_TLS_CERT_FILE
          value: /etc/rota-tls/tls.crt
        - name: ROTA_TLS_KEY_FILE
          value: /etc/rota-tls/tls.key
        - name: ROTA_CA_FILE
          value: /etc/rota-tls/ca.crt
        {{- end }}
        - name: ROTA_STORE
          value: {{ .Values.store.url | quote }}
        - name: ROTA_API_TOKENS
          valueFrom: {secretKeyRef: {name: {{ .Values.auth.existingSecret }}, key: api-tokens}}
        - name: ROTA_TOKEN
          valueFrom: {secretKeyRef: {name: {{ .Values.auth.existingSecret }}, key: token}}
        - name: ROTA_METRICS_TOKENS
          valueFrom: {secretKeyRef: {name: {{ .Values.auth.existingSecret }}, key: metrics-token, optional: true}}
      {{- with .Values.store.existingSecret }}
      envFrom:
        - secretRef: {name: {{ . }}}
      {{- end }}
      ports:
        - {name: http, containerPort: 7420}
      # A node that loads a large store answers /healthz at once, and /readyz when it has loaded.
      livenessProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ include "rota.scheme" . | upper }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http, scheme: {{ include "rota.scheme" . | upper }}}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      resources:
        {{- toYaml .Values.node.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/rota, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if include "rota.embedded" . }}
        - {name: state, mountPath: /var/lib/rota}
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - {name: tls, mountPath: /etc/rota-tls, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "rota.name" . }}-node}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
{{- end }}
