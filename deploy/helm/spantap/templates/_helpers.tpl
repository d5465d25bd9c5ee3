{{- define "spantap.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "spantap.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "spantap.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods: never changed, as a DaemonSet's selector cannot be. */}}
{{- define "spantap.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spantap.labels" -}}
{{ include "spantap.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "spantap.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* spantap.yaml: what the chart says, and over it what the values' config says. */}}
{{- define "spantap.config" -}}
{{- $config := dict "serve" (dict "listen" (printf "0.0.0.0:%d" (int .Values.serve.port))) -}}
{{- with .Values.otlp.endpoint -}}
{{- $otlp := dict "endpoint" . "protocol" $.Values.otlp.protocol "compression" $.Values.otlp.compression -}}
{{- if $.Values.otlp.tls.existingSecret -}}
{{- range $setting, $value := dict "certificate" "certificate" "client_certificate" "clientCertificate" "client_key" "clientKey" -}}
{{- with get $.Values.otlp.tls $value -}}
{{- $_ := set $otlp $setting (printf "/var/run/secrets/spantap-otlp/%s" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "export" (dict "otlp" $otlp) -}}
{{- end -}}
{{- mustMergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{- define "spantap.watches-services" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- if ne (toString (get $kubernetes "services")) "false" }}true{{ end -}}
{{- end -}}
