{{/* Name of all objects: the release's, unless it lacks the chart's. */}}
{{- define "dubway.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dubway.serviceAccount" -}}
{{- default (include "dubway.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "dubway.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dubway.labels" -}}
{{ include "dubway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dubway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Who a container is, for its arguments: replaced by the kubelet where $(NAME) stands. */}}
{{- define "dubway.env" -}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
{{- end -}}

{{/* What a container without any privilege may do. */}}
{{- define "dubway.unprivileged" -}}
runAsUser: 65532
runAsGroup: 65532
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* HOST:PORT of what signs certificates; empty for nobody. */}}
{{- define "dubway.authority" -}}
{{- if eq .Values.xds.mode "istiod" -}}
{{- if .Values.istiod.caAddress -}}
{{ .Values.istiod.caAddress }}
{{- else if .Values.istiod.tls -}}
{{ .Values.istiod.address }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* ConfigMap of the xDS files. */}}
{{- define "dubway.files" -}}
{{- default (printf "%s-xds" (include "dubway.name" .)) .Values.xds.existingConfigMap -}}
{{- end -}}
