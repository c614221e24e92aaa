{{/* Whole folders, never subPath: a file that is mounted alone does not change when its ConfigMap or Secret does. */}}
{{- define "countersign.mounts" -}}
{{- if include "countersign.policyConfigMap" . }}
- {name: policy, mountPath: /etc/countersign/policy, readOnly: true}
{{- end }}
{{- if .Values.receipts.enabled }}
- {name: receipt, mountPath: /etc/countersign/receipt, readOnly: true}
{{- end }}
{{- if include "countersign.adminSecret" . }}
- {name: admin, mountPath: /etc/countersign/admin, readOnly: true}
{{- end }}
{{- if include "countersign.tlsSecret" . }}
- {name: tls, mountPath: /etc/countersign/tls, readOnly: true}
{{- end }}
{{- if .Values.glance.caBundle }}
- {name: glance-ca, mountPath: /etc/countersign/glance-ca, readOnly: true}
{{- end }}
{{- if .Values.glance.clientCertificateSecret }}
- {name: glance-client, mountPath: /etc/countersign/glance-client, readOnly: true}
{{- end }}
{{- if .Values.openstack.cloudsSecret }}
- {name: openstack, mountPath: /etc/countersign/openstack, readOnly: true}
{{- end }}
{{- if .Values.openstack.caBundle }}
- {name: openstack-ca, mountPath: /etc/countersign/openstack-ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "countersign.volumes" -}}
{{- with include "countersign.policyConfigMap" . }}
- name: policy
  configMap:
    name: {{ . }}
{{- end }}
{{- if .Values.receipts.enabled }}
- name: receipt
  secret:
    secretName: {{ include "countersign.receiptSecret" . }}
    defaultMode: 0440
{{- end }}
{{- with include "countersign.adminSecret" . }}
- name: admin
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.admin.key }}, path: token}]
{{- end }}
{{- with include "countersign.tlsSecret" . }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.glance.caBundle }}
{{ include "countersign.caVolume" (dict "name" "glance-ca" "bundle" .) }}
{{- end }}
{{- with .Values.glance.clientCertificateSecret }}
- name: glance-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.openstack.cloudsSecret }}
- name: openstack
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.openstack.caBundle }}
{{ include "countersign.caVolume" (dict "name" "openstack-ca" "bundle" .) }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
