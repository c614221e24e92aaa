{{- define "countersign.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "countersign.fullname" -}}
{{- $name := include "countersign.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "countersign.serviceName" -}}
{{ .Values.service.nameOverride | default (include "countersign.fullname" .) }}
{{- end }}

{{- define "countersign.serviceHost" -}}
{{ include "countersign.serviceName" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "countersign.serviceURL" -}}
{{ ternary "https" "http" (include "countersign.tlsSecret" . | ne "") }}://{{ include "countersign.serviceHost" . }}:{{ .Values.service.port }}
{{- end }}

{{/* What never changes while a release lives; nothing of Glance's own labels is in it. */}}
{{- define "countersign.selector" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "countersign.podSelector" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/component: proxy
{{- end }}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: openstack
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "countersign.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "countersign.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "countersign.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "countersign.tlsSecret" -}}
{{- if .Values.tls.secret -}}
{{ .Values.tls.secret }}
{{- else if .Values.tls.certManager.enabled -}}
{{ include "countersign.fullname" . }}-tls
{{- end }}
{{- end }}

{{- define "countersign.policyConfigMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ .Values.policy.existingConfigMap }}
{{- else if .Values.policy.text -}}
{{ include "countersign.fullname" . }}-policy
{{- end }}
{{- end }}

{{- define "countersign.receiptSecret" -}}
{{ .Values.receipts.existingSecret | default (printf "%s-receipt" (include "countersign.fullname" .)) }}
{{- end }}

{{/* Empty where metrics ask for no token. */}}
{{- define "countersign.adminSecret" -}}
{{- if not .Values.admin.open -}}
{{ .Values.admin.existingSecret | default (printf "%s-admin" (include "countersign.fullname" .)) }}
{{- end }}
{{- end }}

{{/* A volume with a CA bundle: {configMap or secret, key}. */}}
{{- define "countersign.caVolume" -}}
- name: {{ .name }}
  {{- if .bundle.secret }}
  secret:
    secretName: {{ .bundle.secret }}
  {{- else }}
  configMap:
    name: {{ .bundle.configMap }}
  {{- end }}
    items:
      - key: {{ .bundle.key | default "ca.crt" }}
        path: ca.crt
{{- end }}

{{/* How a pod of ours may run: what the Pod Security Standard calls restricted. */}}
{{- define "countersign.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false # a Service called countersign would set COUNTERSIGN_PORT, which is no setting
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "bool" .Values.hostUsers }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "countersign.container" -}}
image: {{ include "countersign.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A pod that runs one command and ends asks for little. */}}
{{- define "countersign.jobResources" -}}
requests: {cpu: 50m, memory: 32Mi, ephemeral-storage: 16Mi}
limits: {memory: 64Mi, ephemeral-storage: 16Mi}
{{- end }}

{{/* GOMEMLIMIT, in bytes, below the container's limit. */}}
{{- define "countersign.goMemLimit" -}}
{{- $limit := dig "limits" "memory" "" .Values.resources | toString -}}
{{- $unit := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $suffix := regexFind "[KMG]i$" $limit -}}
{{- if and .Values.goMemLimit $suffix -}}
{{ div (mul (trimSuffix $suffix $limit | int64) (get $unit $suffix) .Values.goMemLimit) 100 }}
{{- end }}
{{- end }}

{{/* Settings that values of the chart decide, or that a pod may not have. A name that is in both would be in the pod twice. */}}
{{- define "countersign.ownSettings" -}}
COUNTERSIGN_LISTEN COUNTERSIGN_ADMIN_LISTEN COUNTERSIGN_ADMIN_TOKEN_FILE COUNTERSIGN_GLANCE_URL COUNTERSIGN_GLANCE_CA_FILE
COUNTERSIGN_GLANCE_CLIENT_CERT_FILE COUNTERSIGN_GLANCE_CLIENT_KEY_FILE COUNTERSIGN_TLS_CERT_FILE COUNTERSIGN_TLS_KEY_FILE
COUNTERSIGN_POLICY_FILE COUNTERSIGN_RECEIPT_KEY_FILES COUNTERSIGN_SHUTDOWN_DELAY COUNTERSIGN_SHUTDOWN_TIMEOUT
{{- end }}

{{/* OS_… for a Secret of a credential, or clouds.yaml. */}}
{{- define "countersign.cloudsEnv" -}}
- name: OS_CLOUD
  value: {{ .Values.openstack.cloud | quote }}
- name: OS_CLIENT_CONFIG_FILE
  value: /etc/countersign/openstack/clouds.yaml
{{- end }}
