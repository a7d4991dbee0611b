"""``make freeze``: adds what the program has today to what is promised, and refuses to take anything back."""

from tests.frozen import names, schemas

schemas.main()
names.main()
