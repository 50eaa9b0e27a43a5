#!/bin/sh
# Makes the stores beside it anew, with the keytool of Java 17 and OpenSSL 3. They last for a hundred
# years, all have the password "secret1", and hold keys that are for nothing but tests.
set -eu
cd "$(dirname "$0")"
rm -f ./*.p12 ./*.jks ./*.pem
tool() { keytool -storepass secret1 "$@" 2>/dev/null; }
key() { # store, name, distinguished name
    tool -genkeypair -alias "$2" -dname "$3" -keystore "$1" -keyalg EC -groupname secp256r1 -validity 36500
}
signed() { # store, name, extensions
    store=$1 name=$2
    shift 2
    tool -certreq -alias "$name" -keystore "$store" |
        tool -gencert -alias ca -keystore ca.tmp -validity 36500 -rfc "$@" >cert.tmp
    cat cert.tmp trust.pem >chain.tmp
    tool -importcert -noprompt -trustcacerts -alias "$name" -keystore "$store" -file chain.tmp
}

tool -genkeypair -alias ca -dname "CN=Tests" -keystore ca.tmp -keyalg EC -groupname secp256r1 \
    -validity 36500 -ext bc:c=ca:true -ext ku:c=keyCertSign
tool -exportcert -alias ca -keystore ca.tmp -rfc >trust.pem
tool -importcert -noprompt -alias ca -keystore trust.p12 -file trust.pem
tool -importcert -noprompt -alias ca -keystore trust.jks -file trust.pem -storetype JKS

# Servers: one whose certificate has alternative names, one that has a common name alone.
key server.p12 server "CN=server"
signed server.p12 server -ext san=dns:zk1.example.org,ip:10.0.0.1,ip:127.0.0.1
key old-server.p12 server "CN=zk1.example.org,O=Ottla"
signed old-server.p12 server

# The same client in all forms.
key client.p12 client "CN=broker-1,O=Ottla"
signed client.p12 client
convert() { # form, store, options
    form=$1 store=$2
    shift 2
    tool "$@" -importkeystore -noprompt -srckeystore client.p12 -srcstorepass secret1 -alias client \
        -destkeystore "$store" -deststoretype "$form"
}
convert JKS client.jks
convert PKCS12 client-legacy.p12 -J-Dkeystore.pkcs12.legacy
openssl pkcs12 -in client.p12 -passin pass:secret1 -nodes -out all.tmp 2>/dev/null
openssl pkcs8 -topk8 -nocrypt -in all.tmp -out key.tmp
{ cat key.tmp; openssl x509 -in all.tmp; cat trust.pem; } >client.pem
{ openssl pkcs8 -topk8 -in key.tmp -passout pass:secret1; openssl x509 -in all.tmp; } >client-encrypted.pem
{ openssl ec -in key.tmp 2>/dev/null; openssl x509 -in all.tmp; } >client-sec1.pem
openssl pkcs12 -export -in client.pem -inkey key.tmp -name client -passout pass:secret1 -out client-openssl.p12

cp client.p12 two-keys.p12
key two-keys.p12 other "CN=other"

# What openssl makes of itself is an authority too; what it signs without more is of version 1.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=own \
    -addext subjectAltName=DNS:zk1.example.org -keyout key.tmp -out cert.tmp 2>/dev/null
cat key.tmp cert.tmp >self-signed.pem
openssl req -new -key key.tmp -subj /CN=zk1.example.org |
    openssl x509 -req -signkey key.tmp -days 36500 -out cert.tmp 2>/dev/null
cat key.tmp cert.tmp >version-1.pem
rm ./*.tmp
