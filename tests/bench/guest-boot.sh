# Inside the guest: nothing more than having got here.
echo "BOOTED"
