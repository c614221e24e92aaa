# Stores a certificate in Vault, or reads one, as OpenStack's services do: through castellan.
#   openstack.py URL TOKEN MOUNT VERSION PATH store HEX    prints the id
#   openstack.py URL TOKEN MOUNT VERSION PATH get ID       prints what it has, in hexadecimal
import sys

from castellan.common.objects import x_509
from castellan.key_manager import vault_key_manager
from oslo_config import cfg

url, token, mount, version, path, action, argument = sys.argv[1:]
conf = cfg.ConfigOpts()
conf([])
conf.register_opts(vault_key_manager._vault_opts, group='vault')
for name, value in (('vault_url', url), ('root_token_id', token), ('kv_mountpoint', mount),
                    ('kv_version', int(version)), ('kv_path', path or None)):
    conf.set_override(name, value, group='vault')
manager = vault_key_manager.VaultKeyManager(conf)
if action == 'store':
    print(manager.store(None, x_509.X509(bytes.fromhex(argument), name='signer')))
else:
    print(manager.get(None, argument).get_encoded().hex())
